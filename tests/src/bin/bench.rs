//! The benches on the command line: one workload, its floor measured in the same run.

use std::path::PathBuf;
use std::process::ExitCode;

use anabranch_tests::bench::{
    Report, Size, actors, arrive, durable_writes, edit_latency, follow, import, memory, reads, reconnect, stall, trace,
};
use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures one workload, and beside it its floor: what the same machine does at best without us.
///
/// Two replicas in one process, over real libp2p on loopback, through a link that counts TCP payload both ways, with stores
/// in the folder for temporary files (set TMPDIR to measure another disk). Milliseconds depend on the machine: compare
/// ratios and bytes.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    workload: Workload,
    /// How many documents, where the workload has many.
    #[arg(long, global = true)]
    docs: Option<usize>,
    /// One JSON object on one line: workload, docs, ours, floor, ratio.
    #[arg(long, global = true)]
    json: bool,
    /// A short run, to see that it works: its figures mean nothing.
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Subcommand)]
enum Workload {
    /// A person's typing, one change per transaction of the trace.
    ///
    /// apply_s: from the first edit until all of it is fsynced. saved_bytes: keys and values in the store afterwards.
    /// Floor: automerge in memory, and its save.
    Trace {
        /// A sequential editing trace, plain or gzipped.
        file: PathBuf,
    },
    /// What people typed, arriving from their peers through the whole gate, signatures verified, 4,096 changes at a time.
    ///
    /// arrive_s: until the last change is in the document, in memory; the fastest of three rounds. index_bytes_per_op: memory
    /// that the gate keeps of each operation. Floor: automerge parses and applies the same changes in the same batches.
    Arrive {
        /// An editing trace, sequential or concurrent, plain or gzipped.
        file: PathBuf,
    },
    /// A document of one change each of a thousand, ten thousand and a hundred thousand actors.
    ///
    /// record_bytes: of the document's record, which names every actor. commit_ms: to encode it and commit it alone, median.
    /// open_ms: from its stored runs; not with more actors than a document may have. Floor: automerge parses and applies the
    /// same changes.
    Actors,
    /// Small edits, each waited for until it is fsynced.
    ///
    /// per_s_1: one writer. per_s_16: sixteen, with a document each. Floor: redb alone, one value of 200 bytes in one table
    /// a commit; sixteen writers whose values are committed in groups.
    DurableWrites,
    /// Small edits at 100 a second, until an observer on the other replica sees them.
    ///
    /// p50_ms, p99_ms: from the call to the observer. bytes_per_edit: both directions, answers included. Floor: automerge's
    /// commit, encode, decode, apply, and a bare libp2p stream one way, through the same kind of link.
    EditLatency,
    /// Following a document, by its size: a text of 1,000 to a million characters, and a map of 10,000 keys.
    ///
    /// edit_us: one edit made here and its patches taken. merge_us: one that arrives. writer_us: one edit of a writer while
    /// somebody follows on another thread. Floor: the same without anybody who follows.
    Follow,
    /// Edits of another document and questions about the replica, while something heavy is done with a document of 10 MB.
    ///
    /// edit_p99_ms, status_p99_ms: while it is read as JSON, exported, its history or conflicts listed, an earlier version read,
    /// its text of a million characters replaced. Floor: while nothing happens.
    Stall,
    /// JSON imported as a whole, and received by a peer: strings of 100 bytes as plain strings, half as many of them as texts, and
    /// a text of a million characters replaced by another.
    ///
    /// import_ms: from the file's text until the changes are signed. arrive_ms: until they are in the peer's document, through
    /// the whole gate. json_ms: to write the document as JSON. import_peak, arrive_peak: the most memory had at once on the way,
    /// what is there before not counted, in bytes for each byte of the file. Floor: automerge alone, which makes the document of
    /// values that were parsed before, applies its changes, and its own serialiser.
    Import {
        /// How many strings.
        #[arg(long, default_value_t = 100_000)]
        strings: usize,
    },
    /// A replica with many small documents of which none is open, in a process of its own.
    ///
    /// ready_ms: until it is open and lists its documents. idle_rss_mib: resident memory of the process a second later.
    /// first_read_ms: to open one of the documents and read it. Floor: redb alone opens the same file and reads one value.
    Memory {
        /// Measure this process, on documents that were made before.
        #[arg(long, hide = true, requires = "opens")]
        at: Option<PathBuf>,
        /// What it opens.
        #[arg(long, hide = true, requires = "at")]
        opens: Option<memory::Opens>,
    },
    /// Values of a document, read by eight threads while one writes into it.
    ///
    /// gets_per_s: of all eight. edits_per_s: of the one, which pauses for a millisecond after each. Floor: automerge alone
    /// behind a lock for readers and writers.
    Reads,
    /// Two restarted replicas with equal documents, from the dial until their roots are known to be equal.
    ///
    /// ms: from the dial until synced, median of five. bytes: both directions, connection and the two seconds after
    /// included. round_trips: on the critical path from the end of authentication to synced, as the dialer sees both; found
    /// by running once on a line of 100 ms each way. cpu_ms: of this process, that is of both replicas and the link. Floor:
    /// the same two programs without any space, until one refuses the other.
    Reconnect,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) if arguments.json => println!("{}", report.to_json()),
        Ok(report) => print!("{}", report.to_text()),
        Err(error) => {
            eprintln!("bench: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(arguments: &Arguments) -> Result<Report> {
    let size = Size { documents: arguments.docs, quick: arguments.quick };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &arguments.workload {
            Workload::Trace { file } => trace::run(file, size).await,
            Workload::Arrive { file } => arrive::run(file, size),
            Workload::Actors => actors::run(size),
            Workload::DurableWrites => durable_writes::run(size).await,
            Workload::EditLatency => edit_latency::run(size).await,
            Workload::Follow => follow::run(size),
            Workload::Stall => stall::run(size),
            Workload::Import { strings } => import::run(*strings, size),
            Workload::Memory { at: Some(at), opens: Some(opens) } => memory::measure(at, *opens).await,
            Workload::Memory { .. } => memory::run(size).await,
            Workload::Reads => reads::run(size).await,
            Workload::Reconnect => reconnect::run(size).await,
        }
    })
}
