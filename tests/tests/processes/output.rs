//! Output goes where it was sent, and what a peer wrote is shown and never obeyed.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use anabranch_tests::processes::command::{finish, program};

use super::*;

/// Control characters of every kind: C0 with an escape sequence, DEL, C1, writing direction, separators.
const HOSTILE: &str =
    "x\u{1b}[31mRED\u{1b}]0;pwn\u{7}\nfake-line\r\u{7f}\u{9b}2J\u{202e}\u{2066}\u{200e}\u{61c}\u{2028}\u{2029}";

fn exporting(home: &Path) -> Node {
    let node = Node::start(&home.join("node"), &[]);
    node.run(&["space", "create", "work"]).ok();
    new_document(&node, "plan", &json!({ "n": 1 }));
    node
}

fn exported() -> Value {
    json!({ "name": "plan", "n": 1 })
}

#[test]
fn export_writes_devices_pipes_and_links_through() {
    let home = tempfile::tempdir().unwrap();
    let node = exporting(home.path());
    let place = |name: &str| home.path().join(name);
    let export = |name: &str| node.run(&["doc", "export", "plan", "--out", place(name).to_str().unwrap()]);
    let read = |name: &str| serde_json::from_str::<Value>(&fs::read_to_string(place(name)).unwrap()).unwrap();

    // A new file is as any other new file; one that is there keeps its mode.
    export("new.json").ok();
    fs::write(place("other"), "").unwrap();
    let mode = |name: &str| fs::metadata(place(name)).unwrap().permissions().mode();
    assert_eq!((read("new.json"), mode("new.json")), (exported(), mode("other")));
    fs::set_permissions(place("new.json"), fs::Permissions::from_mode(0o640)).unwrap();
    export("new.json").ok();
    assert_eq!(mode("new.json") & 0o777, 0o640);

    fs::write(place("real.json"), "{}").unwrap();
    symlink("real.json", place("link.json")).unwrap();
    export("link.json").ok();
    assert_eq!(read("real.json"), exported());
    assert!(fs::symlink_metadata(place("link.json")).unwrap().is_symlink());

    let made = Command::new("mkfifo").arg(place("fifo")).status().unwrap();
    assert!(made.success());
    let fifo = place("fifo");
    let reader = std::thread::spawn(move || fs::read_to_string(fifo).unwrap());
    export("fifo").ok();
    assert_eq!(serde_json::from_str::<Value>(&reader.join().unwrap()).unwrap(), exported());
    assert!(fs::symlink_metadata(place("fifo")).unwrap().file_type().is_fifo());

    // Standard output holds the document and nothing else.
    for name in ["-", "/dev/stdout"] {
        assert_eq!(node.run(&["doc", "export", "plan", "--out", name]).ok().json(), exported());
    }
    let null = Command::new("mknod").arg(place("null")).args(["c", "1", "3"]).output();
    if !null.is_ok_and(|made| made.status.success()) || fs::write(place("null"), "").is_err() {
        return println!("SKIPPED: no device can be made here");
    }
    export("null").ok();
    assert!(fs::symlink_metadata(place("null")).unwrap().file_type().is_char_device());
}

#[test]
fn export_to_a_file_that_cannot_be_replaced_writes_it_in_place() {
    let home = tempfile::tempdir().unwrap();
    let node = exporting(home.path());
    let folder = home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("out.json");
    fs::write(&file, "a longer text than the document that is to be written over it").unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = fs::write(folder.join("probe"), "").is_ok();
    // Who may write everywhere is kept from renaming by a mount.
    if is_root && !Command::new("mount").arg("--bind").arg(&file).arg(&file).status().is_ok_and(|it| it.success()) {
        return println!("SKIPPED: every folder can be written here");
    }
    let written = node.run(&["doc", "export", "plan", "--out", file.to_str().unwrap()]);
    let now = (fs::read_to_string(&file).unwrap(), fs::metadata(&file).unwrap().ino());
    if is_root {
        assert!(Command::new("umount").arg(&file).status().unwrap().success());
    }
    written.ok();
    assert_eq!((serde_json::from_str::<Value>(&now.0).unwrap(), now.1), (exported(), inode));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Nothing that a terminal obeys, but for the ends of lines.
#[track_caller]
fn assert_is_shown(what: &str, text: &str) {
    let obeyed = |character: char| {
        (character.is_control() && character != '\n')
            || ('\u{2028}'..='\u{202e}').contains(&character)
            || ('\u{2066}'..='\u{2069}').contains(&character)
            || ['\u{200e}', '\u{200f}', '\u{61c}'].contains(&character)
    };
    assert!(!text.contains(obeyed), "`{what}` printed what a terminal obeys: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("fake-line")), "`{what}` let a peer begin a line: {text}");
}

#[test]
fn what_a_peer_wrote_is_shown_to_a_terminal_and_not_obeyed() {
    let trio = Trio::start();
    let document = new_document(&trio.writer, "plan", &json!({ "old": 1 }));
    let value = json!({ HOSTILE: { "value": HOSTILE, "list": [HOSTILE] } }).to_string();
    trio.writer.run(&["doc", "set", &document, "/data", &value]).ok();
    trio.writer.run(&["doc", "set", &document, "/name", &json!(HOSTILE).to_string()]).ok();
    trio.agree(&document);
    // One that is written on both sides at once.
    trio.to_writer.cut();
    trio.founder.run(&["doc", "set", &document, "/data/list", &json!(HOSTILE).to_string()]).ok();
    trio.writer.run(&["doc", "set", &document, "/data/list", &json!([HOSTILE]).to_string()]).ok();
    trio.to_writer.open();
    trio.agree(&document);

    let node = &trio.founder;
    let missing = format!("/data/{HOSTILE}/none");
    let head = node.heads(&document).unwrap()[0].clone();
    let commands: &[&[&str]] = &[
        &["doc", "ls"],
        &["doc", "get", &document],
        &["doc", "get", &document, &missing],
        &["doc", "get", HOSTILE, "/none"],
        &["doc", "set", &document, &missing, "{"],
        &["doc", "conflicts", &document],
        &["doc", "export", &document],
        &["doc", "log", &document, "-p"],
        &["doc", "diff", &document, &head[..12]],
        &["doc", "text", &document, &missing],
        &["doc", "rm", &document, &missing],
        &["watch", "--since", "0", "--timeout", "0.5"],
        &["space", "leave", HOSTILE],
        &["space", "leave", "expedition"],
        &["status"],
        &["peers"],
        &[HOSTILE],
    ];
    for arguments in commands {
        for json in [&[][..], &["--json"]] {
            let ended = node.run(&[json, *arguments].concat());
            assert_is_shown(&ended.command, &ended.stdout);
            assert_is_shown(&ended.command, &ended.stderr);
        }
    }
    // What is shown is the same value.
    let got = node.run(&["doc", "get", &document, "/name"]).ok();
    assert_eq!(got.json(), json!(HOSTILE));
    // As it is for a file, and shown on a terminal.
    assert_eq!(node.run(&["doc", "get", &document, "/name", "--raw"]).ok().stdout, format!("{HOSTILE}\n"));
    let anabranch = program(node.directory());
    let mut terminal = Command::new("script");
    terminal.args([
        "-qec",
        &format!("{} doc get {document} /name --raw", anabranch.get_program().display()),
        "/dev/null",
    ]);
    terminal.env("ANABRANCH_DIR", node.directory());
    if Command::new("script").arg("--version").output().is_err() {
        return println!("SKIPPED: there is no `script` here to make a terminal with");
    }
    let shown = finish(terminal, "doc get --raw on a terminal".to_owned(), "");
    assert!(shown.stdout.contains("\\u001b[31mRED"), "{:?}", shown.stdout);
    assert!(!shown.stdout.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{:?}", shown.stdout);
}
