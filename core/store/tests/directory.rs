//! The directory of a store: private, locked, made whole or not at all, and refused with words that say what to do.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anabranch_engine::storage::Table;
use anabranch_store::conformance::{commit, row};
use anabranch_store::{OpenError, Store};

/// Set in a child process of this test: the directory to open.
const CHILD: &str = "ANABRANCH_STORE_TEST_CHILD";

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Not a test by itself: what a child process runs. Opens, says how it went, and holds on until its input ends.
#[test]
fn child() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let opened = Store::open(directory);
    match &opened {
        Ok(_) => println!("\nchild: open"),
        Err(error) => println!("\nchild: {error}"),
    }
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn spawn_child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn said(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let lines = lines.map(Result::unwrap);
    lines.filter_map(|line| line.strip_prefix("child: ").map(str::to_owned)).next().unwrap()
}

#[test]
fn a_new_store_is_for_its_owner_alone() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("a/b");
    Store::open(&directory).unwrap();
    assert_eq!(names(&directory), ["store.lock", "store.redb"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&root.path().join("a")), 0o700);
        assert_eq!(mode(&directory.join("store.redb")), 0o600);
        assert_eq!(mode(&directory.join("store.lock")), 0o600);
    }
}

#[test]
fn what_a_killed_creation_left_is_removed() {
    let root = tempfile::tempdir().unwrap();
    for left in [&b""[..], &b"redb"[..], &[0; 100_000][..]] {
        let directory = root.path().join(left.len().to_string());
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("store.redb.new"), left).unwrap();
        let store = Store::open(&directory).unwrap();
        commit(&store, vec![row(Table::Meta, "k", "v")]).unwrap();
        store.close();
        assert_eq!(names(&directory), ["store.lock", "store.redb"]);

        // Beside a finished store it is rubbish too.
        fs::write(directory.join("store.redb.new"), left).unwrap();
        assert_eq!(Store::open(&directory).unwrap().image().unwrap().rows.len(), 1);
        assert_eq!(names(&directory), ["store.lock", "store.redb"]);
    }
}

#[test]
fn a_second_open_in_the_same_process_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let error = Store::open(root.path()).unwrap_err();
    let place = root.path().display();
    assert_eq!(
        error.to_string(),
        format!("the store at {place} is in use by another process; stop it, or use another directory")
    );
    store.close();
    Store::open(root.path()).unwrap();
}

#[test]
fn a_second_process_is_refused_until_the_first_one_ends() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let mut child = spawn_child(root.path());
    assert!(said(&mut child).contains("is in use by another process; stop it, or use another directory"));
    child.wait().unwrap();
    store.close();

    let mut child = spawn_child(root.path());
    assert_eq!(said(&mut child), "open");
    assert!(matches!(Store::open(root.path()), Err(OpenError::InUse { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    Store::open(root.path()).expect("a killed process holds nothing");
}

#[test]
fn of_processes_that_start_at_once_on_nothing_one_opens() {
    let root = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let directory = root.path().join(round.to_string());
        let mut children: Vec<_> = (0..4).map(|_| spawn_child(&directory)).collect();
        let said: Vec<_> = children.iter_mut().map(said).collect();
        let (open, refused): (Vec<_>, Vec<_>) = said.iter().partition(|said| *said == "open");
        assert_eq!(open.len(), 1, "{said:?}");
        assert!(refused.iter().all(|said| said.contains("is in use by another process")), "{said:?}");
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("store.redb");
    for content in [&b"not a store, but somebody's file"[..], b"", &[0; 4096]] {
        fs::write(&file, content).unwrap();
        let error = Store::open(root.path()).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{} is not an Anabranch store, or is damaged", file.display())), "{text}");
        assert!(text.contains(&format!("move {} aside, start again", file.display())), "{text}");
        assert_eq!(fs::read(&file).unwrap(), content);
    }

    fs::remove_file(&file).unwrap();
    let theirs = redb::Database::create(&file).unwrap();
    let writing = theirs.begin_write().unwrap();
    writing.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    writing.commit().unwrap();
    drop(theirs);
    let error = Store::open(root.path()).unwrap_err();
    assert!(matches!(&error, OpenError::Foreign { detail, .. } if detail.contains("theirs")), "{error}");
}

#[test]
fn a_damaged_store_is_refused_with_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("store.redb");
    let store = Store::open(root.path()).unwrap();
    for key in 0..200u8 {
        commit(&store, vec![row(Table::Runs, [key], vec![key; 3000])]).unwrap();
    }
    store.close();
    let whole = fs::read(&file).unwrap();

    // Truncated: the pages that the root points to are gone.
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let error = Store::open(root.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("the store at {} is damaged (", root.path().display())), "{text}");
    assert!(text.ends_with("what is readable is saved, and the rest comes from the peers"), "{text}");
    assert_eq!(fs::read(&file).unwrap().len(), whole.len() / 2, "it is left as it is");
}

#[test]
fn a_damaged_row_is_named_and_the_others_are_read() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("store.redb");
    let store = Store::open(root.path()).unwrap();
    let rows = (0..40u8).map(|key| row(Table::Runs, [key], [&b"value of "[..], &[key; 400]].concat()));
    commit(&store, rows.collect()).unwrap();
    store.close();
    let mut bytes = fs::read(&file).unwrap();
    let needle = [&b"value of "[..], &[20; 100]].concat();
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at + 50] ^= 4;
    fs::write(&file, bytes).unwrap();

    let store = Store::open(root.path()).unwrap();
    let scan = |from: u8, to: u8| anabranch_store::conformance::scan(&store, Table::Runs, &[from], &[to], usize::MAX);
    let failure = scan(0, 40).unwrap_err();
    let place = root.path().display();
    assert_eq!(
        failure.to_string(),
        format!(
            "the store is damaged: {place}: the row 14 in table runs does not match its checksum; when it is opened with \
             salvaging allowed, what is readable is saved, and the rest comes from the peers"
        )
    );
    assert_eq!(scan(0, 19).unwrap().rows.len(), 19);
    assert_eq!(scan(22, 40).unwrap().rows.len(), 18);
    assert!(scan(21, 40).is_err(), "beside a damaged row nobody knows whether one is missing");
    let salvage = |from: u8, to: u8| anabranch_store::conformance::salvage(&store, Table::Runs, &[from], &[to], 4000);
    let salvaged = salvage(15, 40).unwrap();
    assert_eq!(salvaged.damaged, [[20]]);
    assert_eq!((salvaged.rows.len(), salvaged.more), (10, true), "damaged rows do not count");
    assert_eq!(salvaged.rows[5].0, [21]);
    assert_eq!(salvage(21, 25).unwrap().damaged, Vec::<Vec<u8>>::new());
    assert_eq!(store.failed(), None);
    commit(&store, vec![row(Table::Runs, [20], "again")]).expect("the store goes on");
    assert_eq!(scan(0, 40).unwrap().rows.len(), 40);
}

#[test]
fn a_directory_that_cannot_be_made_says_why() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(&file).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("the store at {} cannot be opened: ", file.display())), "{error}");
}
