//! The benches run, and say what they promise to say. What the figures are is not tested: they belong to the machine.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;
use std::process::Command;

use serde_json::Value;

/// Runs a bench shortly and returns its report.
fn bench(arguments: &[&str]) -> Value {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).args(["--quick", "--json"]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "bench {arguments:?}: {stderr}");
    assert_eq!(stdout.lines().count(), 1, "one object on one line: {stdout}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

/// The report has these figures, all of them numbers, and a ratio wherever the floor has the figure.
fn assert_reports(report: &Value, workload: &str, ours: &[&str], floor: &[&str]) {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(report), ["workload", "docs", "ours", "floor", "ratio"]);
    assert_eq!(report["workload"], workload);
    assert!(report["docs"].is_u64());
    assert_eq!(keys(&report["ours"]), ours);
    assert_eq!(keys(&report["floor"]), floor);
    for name in ours {
        let figure = report["ours"][name].as_f64().unwrap_or_else(|| panic!("{name} is no number: {report}"));
        let Some(floor) = report["floor"][name].as_f64().filter(|floor| *floor > 0.0) else { continue };
        let ratio = report["ratio"][name].as_f64().unwrap_or_else(|| panic!("{name} has no ratio: {report}"));
        assert!((ratio - figure / floor).abs() <= 0.006, "{name}: {report}");
    }
}

#[test]
fn trace_reports_time_and_bytes() {
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    let typing: Vec<Value> = "a stream that joins again"
        .chars()
        .enumerate()
        .map(|(at, letter)| serde_json::json!({"patches": [[at, 0, letter.to_string()]]}))
        .collect();
    let trace = serde_json::json!({"startContent": "", "endContent": "a stream that joins again", "txns": typing});
    file.write_all(trace.to_string().as_bytes()).unwrap();
    let report = bench(&["trace", file.path().to_str().unwrap()]);
    assert_reports(&report, "trace", &["apply_s", "saved_bytes"], &["apply_s", "saved_bytes"]);
}

#[test]
fn memory_reports_time_and_memory_of_another_process() {
    let report = bench(&["memory", "--docs", "3"]);
    let figures = ["ready_ms", "idle_rss_mib", "first_read_ms"];
    assert_reports(&report, "memory", &figures, &figures);
    assert!(report["ours"]["idle_rss_mib"].as_f64().unwrap() > 1.0, "{report}");
}

#[test]
fn reads_reports_what_eight_threads_read() {
    let report = bench(&["reads"]);
    let figures = ["gets_per_s", "edits_per_s"];
    assert_reports(&report, "reads", &figures, &figures);
    assert!(report["ours"]["gets_per_s"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn arrive_reports_time_of_sequential_and_concurrent_traces() {
    for (name, changes) in [("friendsforever", 501), ("automerge-paper", 501)] {
        let file = format!("{}/data/{name}.json.gz", env!("CARGO_MANIFEST_DIR"));
        let report = bench(&["arrive", &file]);
        let floor = ["arrive_s", "us_per_change"];
        assert_reports(&report, "arrive", &["arrive_s", "us_per_change", "changes", "index_bytes_per_op"], &floor);
        assert_eq!(report["ours"]["changes"], changes);
    }
}

#[test]
fn actors_reports_what_they_cost() {
    let figures =
        ["1k", "10k", "100k"].map(|step| ["record_bytes", "commit_ms", "open_ms"].map(|of| format!("{of}_{step}")));
    let ours: Vec<&str> = figures.iter().flatten().map(String::as_str).collect();
    assert_reports(&bench(&["actors"]), "actors", &ours, &["open_ms_1k", "open_ms_10k", "open_ms_100k"]);
}

#[test]
fn durable_writes_reports_both_rates() {
    assert_reports(&bench(&["durable-writes"]), "durable-writes", &["per_s_1", "per_s_16"], &["per_s_1", "per_s_16"]);
}

#[test]
fn edit_latency_reports_percentiles_and_bytes() {
    let figures = ["p50_ms", "p99_ms", "bytes_per_edit"];
    assert_reports(&bench(&["edit-latency"]), "edit-latency", &figures, &figures);
}

#[test]
fn reconnect_reports_time_bytes_round_trips_and_cpu() {
    let report = bench(&["reconnect", "--docs", "12"]);
    let ours = ["ms", "bytes", "bytes_beyond_floor", "round_trips", "cpu_ms"];
    assert_reports(&report, "reconnect", &ours, &["ms", "bytes", "cpu_ms"]);
    assert_eq!(report["docs"], 12);
}

#[test]
fn bad_arguments_are_answered() {
    for (arguments, expected) in [
        (&["trace", "no such file"][..], "no such file is not an editing trace"),
        (&["no-such-workload"][..], "no-such-workload"),
        (&["reconnect", "--docs", "many"][..], "many"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(expected), "bench {arguments:?}: {stderr}");
    }
}

#[test]
fn follow_reports_edits_merges_and_the_writer() {
    let report = bench(&["follow"]);
    let names =
        ["edit_us_1k", "merge_us_1k", "writer_us_1k", "edit_us_1k_keys", "merge_us_1k_keys", "writer_us_1k_keys"];
    assert_reports(&report, "follow", &names, &names);
}

#[test]
fn stall_reports_edits_and_questions_beside_each_call() {
    let report = bench(&["stall"]);
    let names: Vec<String> = ["json", "export", "history", "conflicts", "past", "replace"]
        .iter()
        .flat_map(|call| [format!("edit_p99_ms_{call}"), format!("status_p99_ms_{call}")])
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_reports(&report, "stall", &names, &names);
}

#[test]
fn import_reports_time_and_memory_here_and_on_a_peer() {
    let names: Vec<String> = ["plain", "texts", "replaced"]
        .iter()
        .flat_map(|case| {
            ["import_ms", "arrive_ms", "json_ms", "import_peak", "arrive_peak"].map(|of| format!("{of}_{case}"))
        })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_reports(&bench(&["import"]), "import", &names, &names);
}
