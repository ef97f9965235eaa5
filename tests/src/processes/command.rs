//! One run of the command line: its arguments, what it printed, how it ended.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use serde_json::Value;

use crate::processes::binary::anabranch;
use crate::processes::patience::PATIENCE;

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The arguments, for messages.
    pub command: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `anabranch` to its end.
pub fn run<S: AsRef<str>>(directory: &Path, arguments: &[S], input: &str) -> Finished {
    let mut command = program(directory);
    command.args(arguments.iter().map(AsRef::as_ref));
    let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    finish(command, words.join(" "), input)
}

/// `anabranch` on a directory, with nothing else set from outside.
pub fn program(directory: &Path) -> Command {
    let mut command = Command::new(anabranch());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ANABRANCH_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    command.env("ANABRANCH_DIR", directory);
    command
}

/// Feeds `input` to a command and waits for its end.
pub fn finish(mut command: Command, words: String, input: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start `anabranch {words}`: {error}"));
    let mut stdin = child.stdin.take().expect("the input is piped");
    let input = input.to_owned();
    let pid = child.id();
    let (done, wait) = sync_channel(1);
    std::thread::spawn(move || {
        // A command that ends before it has read everything is judged by its exit code.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output();
        let _ = writer.join();
        let _ = done.send(output);
    });
    let output = match wait.recv_timeout(PATIENCE) {
        Ok(output) => output.unwrap_or_else(|error| panic!("lost `anabranch {words}`: {error}")),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            signal(pid, "KILL");
            panic!("`anabranch {words}` did not end within {} s", PATIENCE.as_secs());
        }
    };
    Finished {
        command: words,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Sends a signal to one process that this test has started.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.is_ok(), "cannot signal process {pid}: {sent:?}");
}

impl Finished {
    /// It must have ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "`anabranch {}`\nstdout: {}\nstderr: {}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect(0)
    }

    /// It must have failed with this code and said this.
    #[track_caller]
    pub fn fails(self, code: i32, says: &str) -> Self {
        let it = self.expect(code);
        assert!(it.stderr.contains(says), "`anabranch {}` should say `{says}`, it said: {}", it.command, it.stderr);
        it
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("`anabranch {}` printed no JSON ({error}): {}", self.command, self.stdout))
    }

    /// Standard output as a JSON value on each line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("`anabranch {}` printed no JSON ({error}): {line}", self.command))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// Standard output without the end of its line.
    pub fn text(&self) -> &str {
        self.stdout.trim_end()
    }
}
