//! Writes that stay in memory, over a medium that nothing may be written to: a full disk, one that fails, one mounted
//! read-only. redb repairs a file by writing to it before it reads it, so without this such a disk could not even be read.

use std::collections::BTreeMap;
use std::io;

/// What is read and kept at once.
const BLOCK: u64 = 4096;
/// Blocks kept. A repair writes a few of them, and what waits to be saved is a few megabytes.
const BLOCKS_MAX: usize = 64 * 1024;

/// What was written, by block.
#[derive(Debug)]
pub(super) struct Layer {
    blocks: BTreeMap<u64, Box<[u8; BLOCK as usize]>>,
    /// Length of the whole.
    length: u64,
    /// Bytes of the medium that show through where there is no block.
    below: u64,
}

impl Layer {
    /// Nothing written yet, over so many bytes.
    pub(super) fn over(length: u64) -> Self {
        Self { blocks: BTreeMap::new(), length, below: length }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.length = length;
        self.below = self.below.min(length);
        self.blocks.retain(|block, _| block * BLOCK < length);
        // What is cut off must not come back when it grows again.
        if let Some(last) = self.blocks.get_mut(&(length / BLOCK)) {
            last[(length % BLOCK) as usize..].fill(0);
        }
    }

    /// Reads through to `below`, which reads from the medium.
    pub(super) fn read(
        &self,
        offset: u64,
        out: &mut [u8],
        below: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = self.end(offset, out.len())?;
        let shown = self.below.clamp(offset, end);
        let (from_below, beyond) = out.split_at_mut((shown - offset) as usize);
        if !from_below.is_empty() {
            below(offset, from_below)?;
        }
        beyond.fill(0);
        for (block, bytes) in self.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let start = block * BLOCK;
            let (from, to) = (start.max(offset), (start + BLOCK).min(end));
            if from < to {
                let into = &mut out[(from - offset) as usize..(to - offset) as usize];
                into.copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        below: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = self.end(offset, data.len())?;
        for block in offset / BLOCK..end.div_ceil(BLOCK) {
            let start = block * BLOCK;
            if !self.blocks.contains_key(&block) {
                if self.blocks.len() >= BLOCKS_MAX {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let mut bytes = Box::new([0; BLOCK as usize]);
                let length = self.length.min(start + BLOCK) - start;
                self.read(start, &mut bytes[..length as usize], &below)?;
                self.blocks.insert(block, bytes);
            }
            let (from, to) = (start.max(offset), (start + BLOCK).min(end));
            if let Some(bytes) = self.blocks.get_mut(&block) {
                let data = &data[(from - offset) as usize..(to - offset) as usize];
                bytes[(from - start) as usize..(to - start) as usize].copy_from_slice(data);
            }
        }
        Ok(())
    }

    fn end(&self, offset: u64, length: usize) -> io::Result<u64> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.length);
        end.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same calls on a layer and on a plain vector.
    struct Pair {
        base: Vec<u8>,
        layer: Layer,
        plain: Vec<u8>,
    }

    impl Pair {
        fn new(length: usize) -> Self {
            let base: Vec<u8> = (0..length).map(|at| at as u8).collect();
            Self { layer: Layer::over(length as u64), plain: base.clone(), base }
        }

        fn below(base: &[u8]) -> impl Fn(u64, &mut [u8]) -> io::Result<()> {
            |offset, out| {
                out.copy_from_slice(&base[offset as usize..][..out.len()]);
                Ok(())
            }
        }

        fn write(&mut self, offset: usize, data: &[u8]) {
            self.layer.write(offset as u64, data, Self::below(&self.base)).unwrap();
            self.plain[offset..offset + data.len()].copy_from_slice(data);
        }

        fn resize(&mut self, length: usize) {
            self.layer.set_length(length as u64);
            self.plain.resize(length, 0);
        }

        fn check(&self) {
            assert_eq!(self.layer.length(), self.plain.len() as u64);
            for (from, to) in [(0, self.plain.len()), (4000, 4200), (8191, 8193)] {
                let to = to.min(self.plain.len());
                let from = from.min(to);
                let mut read = vec![7; to - from];
                self.layer.read(from as u64, &mut read, Self::below(&self.base)).unwrap();
                assert_eq!(read, self.plain[from..to]);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_and_the_rest_shows_through() {
        let mut pair = Pair::new(10_000);
        let before = pair.base.clone();
        pair.check();
        pair.write(4090, &[1; 20]);
        pair.check();
        pair.write(0, &[2; 9000]);
        pair.write(9_999, &[3]);
        pair.check();
        assert_eq!(pair.base, before, "nothing reaches the medium");
    }

    #[test]
    fn what_is_cut_off_is_gone() {
        let mut pair = Pair::new(10_000);
        pair.write(8_000, &[1; 2_000]);
        pair.resize(9_000);
        pair.check();
        pair.resize(20_000);
        pair.check();
        pair.write(15_000, &[4; 100]);
        pair.resize(4_000);
        pair.resize(12_000);
        pair.check();
        let read = pair.layer.read(11_999, &mut [0; 2], Pair::below(&pair.base));
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
