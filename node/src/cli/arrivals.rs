//! Edits from standard input as they arrive: whoever takes them gets what has come so far and does not wait for more.

use std::io::{BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_api::{EditStep, Failure};

use crate::cli::edit::Lines;
use crate::failure::exit_code;
use crate::show::Show;
use crate::signals::{Ending, Endings};
use crate::time_limit::TimeLimit;

/// Lines that wait to be taken: enough that they share their way to the disk.
const LINES_MAX: usize = 256;
/// Bytes of lines that wait to be taken, but for the last line.
const BYTES_MAX: usize = 1024 * 1024;
/// How long a stream that is cut may take for what it has read.
const ENDING_TIME_MAX: Duration = Duration::from_secs(2);

/// Why a stream ends before its input does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// It was asked to end.
    Signal(Ending),
    /// Its time is over.
    TimeLimit(TimeLimit),
}

/// Edits that have arrived and were not taken yet.
#[derive(Clone, Default)]
pub(crate) struct Arrivals {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    edits: Vec<EditStep>,
    /// The line that each came on.
    numbers: Vec<u64>,
    /// The bytes of each line.
    sizes: Vec<usize>,
    /// The reader waits for more: all whole lines that it has read are here.
    is_waiting: bool,
    /// There are no more, or no more that can be read.
    ended: Option<Result<(), Failure>>,
    /// Why no more are to be read, though there may be.
    cut: Option<Cut>,
}

impl State {
    fn bytes(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// How many of the edits go into one request.
    fn fitting(&self) -> usize {
        let mut bytes = 0;
        let fits = |size: &&usize| {
            bytes += **size;
            bytes <= BYTES_MAX
        };
        self.sizes.iter().take_while(fits).count().max(1)
    }
}

/// An input of which it is known while it is waited for.
struct Waiting<R> {
    input: R,
    arrivals: Arrivals,
}

impl<R: Read> Read for Waiting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.arrivals.state().is_waiting = true;
        self.arrivals.shared.changed.notify_all();
        let read = self.input.read(buffer);
        // At once: what has come may be a whole line, which is not to be left behind.
        self.arrivals.state().is_waiting = false;
        read
    }
}

/// What [`Arrivals::take`] finds.
pub(crate) enum Taken {
    /// Edits, with the line that each came on.
    Edits(Vec<EditStep>, Vec<u64>),
    /// All were taken, and no more will come: the input has ended, a line is malformed, or the stream is cut.
    End(Result<(), Failure>, Option<Cut>),
}

impl Arrivals {
    /// Begins to read standard input, and to watch for the signals that ask to end and for the end of the time.
    pub(crate) fn of_standard_input(limit: Option<TimeLimit>, show: Show) -> Result<Self, Failure> {
        let arrivals = Self::default();
        let runtime = super::run::runtime()?;
        let endings = runtime.block_on(async { Endings::watch() })?;
        let (reading, watching) = (arrivals.clone(), arrivals.clone());
        std::thread::spawn(move || reading.read(std::io::stdin()));
        std::thread::spawn(move || runtime.block_on(watching.watch(endings, limit, show)));
        Ok(arrivals)
    }

    /// Waits for something and takes it: at most `lines_max` edits, and at most `BYTES_MAX` bytes of lines, or one longer line
    /// by itself.
    pub(crate) fn take(&self, lines_max: usize) -> Taken {
        let mut state = self.state();
        loop {
            if !state.edits.is_empty() {
                let taken = state.fitting().min(lines_max);
                let edits = state.edits.drain(..taken).collect();
                let numbers = state.numbers.drain(..taken).collect();
                state.sizes.drain(..taken);
                self.shared.changed.notify_all();
                return Taken::Edits(edits, numbers);
            }
            if let Some(end) = state.ended.clone() {
                return Taken::End(end, state.cut);
            }
            if state.cut.is_some() && state.is_waiting {
                return Taken::End(Ok(()), state.cut);
            }
            state = self.wait(state);
        }
    }

    /// Reads until there is no more, or until the command is cut and everything that was read is there.
    fn read(&self, input: impl Read) {
        let waiting = Waiting { input, arrivals: self.clone() };
        let mut lines = Lines::of(BufReader::with_capacity(64 * 1024, waiting));
        loop {
            if !lines.has_a_whole_line() {
                let state = self.state();
                if state.cut.is_some() {
                    return self.end(state, Ok(()));
                }
            }
            let read = lines.next();
            let mut state = self.state();
            match read {
                Ok(Some((edit, number, bytes))) => {
                    state.edits.push(edit);
                    state.numbers.push(number);
                    state.sizes.push(bytes);
                    self.shared.changed.notify_all();
                    while state.edits.len() >= LINES_MAX || state.bytes() > BYTES_MAX {
                        state = self.wait(state);
                    }
                }
                Ok(None) => return self.end(state, Ok(())),
                Err(failure) => return self.end(state, Err(failure)),
            }
        }
    }

    fn end(&self, mut state: MutexGuard<'_, State>, end: Result<(), Failure>) {
        state.ended = Some(end);
        self.shared.changed.notify_all();
    }

    /// Notes what comes first, a signal or the end of the time. A signal after that, or that it leads to nothing in time, ends the
    /// process.
    async fn watch(&self, mut endings: Endings, limit: Option<TimeLimit>, show: Show) {
        let time_is_over = async {
            match limit {
                Some(limit) => {
                    tokio::time::sleep(limit.left().unwrap_or_default()).await;
                    limit
                }
                None => std::future::pending().await,
            }
        };
        let cut = tokio::select! {
            ending = endings.next() => Cut::Signal(ending),
            limit = time_is_over => Cut::TimeLimit(limit),
        };
        self.state().cut = Some(cut);
        self.shared.changed.notify_all();
        let _ = tokio::time::timeout(ENDING_TIME_MAX, endings.next()).await;
        match cut {
            Cut::Signal(ending) => std::process::exit(ending.exit_code()),
            Cut::TimeLimit(limit) => {
                let failure = limit.unanswered();
                show.failure(&failure);
                std::process::exit(i32::from(exit_code(&failure)))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LINE: &str = "{\"op\":\"remove\",\"path\":\"/a\"}\n";

    fn reading(input: impl Read + Send + 'static) -> Arrivals {
        let arrivals = Arrivals::default();
        let reader = arrivals.clone();
        std::thread::spawn(move || reader.read(input));
        arrivals
    }

    fn numbers(taken: Taken) -> Vec<u64> {
        match taken {
            Taken::Edits(_, numbers) => numbers,
            Taken::End(end, _) => panic!("the end: {end:?}"),
        }
    }

    #[test]
    fn a_line_is_taken_while_the_next_one_is_awaited() {
        let (read, mut write) = std::io::pipe().unwrap();
        let arrivals = reading(read);
        for number in 1..=3 {
            write.write_all(LINE.as_bytes()).unwrap();
            assert_eq!(numbers(arrivals.take(LINES_MAX)), [number]);
        }
        drop(write);
        assert!(matches!(arrivals.take(LINES_MAX), Taken::End(Ok(()), None)));
    }

    #[test]
    fn lines_before_a_bad_one_are_taken_first() {
        let arrivals = reading(std::io::Cursor::new(format!("{LINE}{LINE}no\n{LINE}")));
        let mut taken = Vec::new();
        let failure = loop {
            match arrivals.take(1) {
                Taken::Edits(_, numbers) => taken.extend(numbers),
                Taken::End(end, _) => break end.unwrap_err(),
            }
        };
        assert_eq!(taken, [1, 2]);
        assert!(failure.message.starts_with("line 3, column 2: malformed JSON"), "{failure}");
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes_however_few_are_taken() {
        let line = format!("{{\"op\":\"remove\",\"path\":\"/{}\"}}\n", "a".repeat(BYTES_MAX / 3));
        for lines_max in [1, usize::MAX] {
            let arrivals = reading(std::io::Cursor::new(line.repeat(20)));
            let mut count = 0;
            while let Taken::Edits(edits, _) = arrivals.take(lines_max) {
                assert!(edits.len() <= 2);
                count += edits.len();
                assert!(arrivals.state().bytes() <= BYTES_MAX + line.len());
            }
            assert_eq!(count, 20);
        }
    }

    #[test]
    fn more_than_the_limit_is_not_read_ahead() {
        let arrivals = reading(std::io::Cursor::new(LINE.repeat(3 * LINES_MAX)));
        let mut count = 0;
        while let Taken::Edits(edits, _) = arrivals.take(usize::MAX) {
            assert!(edits.len() <= LINES_MAX);
            count += edits.len();
        }
        assert_eq!(count, 3 * LINES_MAX);
    }
}
