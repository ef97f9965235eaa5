//! Bytes as a source of choices. Total: when they are used up, every answer is zero or empty. [`Output`] writes what
//! [`Input`] reads, for seeds.

/// What is left of the bytes.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Two bytes, big endian.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A set of places: bit `i` of four bytes.
    pub fn set(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    /// At most so many bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length (two bytes).
    pub fn chunk(&mut self) -> &'a [u8] {
        let length = self.short();
        self.take(usize::from(length))
    }

    /// Text behind its length; what is no text is replaced.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.chunk()).into_owned()
    }

    /// Everything left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }
}

/// Bytes for [`Input`].
#[derive(Default)]
pub struct Output(pub Vec<u8>);

impl Output {
    /// One byte.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    /// Two bytes.
    pub fn short(&mut self, value: u16) -> &mut Self {
        self.take(&value.to_be_bytes())
    }

    /// A set of places.
    pub fn set(&mut self, places: u32) -> &mut Self {
        self.take(&places.to_be_bytes())
    }

    /// Bytes as they are.
    pub fn take(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes behind their length, the first 65,535 of them.
    pub fn chunk(&mut self, bytes: &[u8]) -> &mut Self {
        let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
        self.short(bytes.len() as u16).take(bytes)
    }
}
