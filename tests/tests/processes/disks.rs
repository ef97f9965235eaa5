//! Disks that fill up, and stores that are taken from under a running node.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anabranch_tests::processes::command::{program, run, signal};

use super::*;

/// A file system of its own for one test, so small that it fills up.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path, size: &str) -> Result<Self, String> {
        std::fs::create_dir_all(place).map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={size}"))
            .arg("tmpfs")
            .arg(place)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(place.to_path_buf())),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn grow(&self, size: &str) {
        let grown = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0).status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A node whose log is not in its directory's file system.
struct Apart(Child);

impl Apart {
    fn start(directory: &Path, log: &Path, arguments: &[&str]) -> Self {
        let mut command = program(directory);
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        command.env("RUST_LOG", "info").arg("run").args(arguments);
        let node = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        wait_until("it runs", || match run(directory, &["id"], "").code {
            Some(0) => Ok(()),
            code => Err(format!("{code:?}")),
        });
        node
    }

    fn stop(mut self) {
        signal(self.0.id(), "TERM");
        self.0.wait().unwrap();
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

// The whole replica stopped: nothing could be read, at once nor after a start, until there was room and it was started again.
#[test]
fn a_full_disk_is_read_and_room_on_it_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(&home.path().join("disk"), "3m") {
        Ok(disk) => disk,
        Err(reason) => {
            println!("SKIPPED: no small disk can be mounted here ({reason})");
            return;
        }
    };
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({}));
    let (directory, log) = (disk.0.join("node"), home.path().join("full.log"));
    let node = Apart::start(&directory, &log, &[]);
    let link = Link::to(trio.founder.port());
    run(&directory, &["space", "join", &trio.ticket("writer", &link)], "").ok();
    let own = run(&directory, &["doc", "new", "--name", "big"], "").ok().text().to_owned();
    let mut saved = 0;
    let refused = loop {
        // Long keys: bytes without many operations.
        let value: Value = (0..60).map(|key| (format!("{key}{}", "x".repeat(1_000)), json!(0))).collect();
        let value = value.to_string();
        let finished = run(&directory, &["doc", "set", &own, &format!("/k{saved}"), &value], "");
        if finished.code != Some(0) {
            break finished;
        }
        saved += 1;
        assert!(saved < 1_000, "the disk never fills");
    };
    refused.fails(1, "the disk is full");
    let last = format!("/k{}", saved - 1);
    let is_read = || {
        run(&directory, &["doc", "get", &own, &last], "").ok();
        assert!(run(&directory, &["doc", "ls"], "").ok().stdout.contains("big"));
        run(&directory, &["doc", "log", &own], "").ok();
        let file = home.path().join("exported.json");
        run(&directory, &["doc", "export", &own, "--out", file.to_str().unwrap()], "").ok();
        assert!(std::fs::metadata(&file).unwrap().len() > 60_000);
        run(&directory, &["doc", "set", &own, "/more", "1"], "").fails(1, "no edits are taken: the disk is full");
        run(&directory, &["space", "invite"], "").fails(1, "the disk is full");
        let status = run(&directory, &["--json", "status"], "").ok().json();
        assert!(status["stopped"].as_str().is_some_and(|why| why.contains("the disk is full")), "{status}");
    };
    is_read();
    assert!(std::fs::read_to_string(&log).unwrap().contains("no edits are taken"));
    let arrives = || trio.founder.socket().get(&own, &last).map(|_| ());
    wait_until("a peer fetches what is saved", arrives);
    trio.works(&document, "a full disk elsewhere");

    // Started again on the full disk, it does the same.
    node.stop();
    let node = Apart::start(&directory, &log, &[]);
    is_read();
    // And goes on by itself.
    disk.grow("64m");
    wait_until("edits are taken again", || match run(&directory, &["doc", "set", &own, "/more", "1"], "") {
        finished if finished.code == Some(0) => Ok(()),
        finished => Err(finished.stderr),
    });
    assert_eq!(run(&directory, &["--json", "status"], "").ok().json()["stopped"], Value::Null);
    wait_until("a peer has it", || trio.founder.socket().get(&own, "/more").map(|_| ()));
    node.stop();
    let _node = Apart::start(&directory, &log, &[]);
    let content = run(&directory, &["--json", "doc", "get", &own], "").ok().stdout;
    for key in 0..saved {
        assert!(content.contains(&format!("\"k{key}\"")), "write {key} of {saved} is lost");
    }
}

#[test]
fn a_disk_that_is_full_during_an_import_leaves_the_old_or_the_new_document_everywhere_and_says_which() {
    let home = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(&home.path().join("disk"), "4m") {
        Ok(disk) => disk,
        Err(reason) => {
            println!("SKIPPED: no small disk can be mounted here ({reason})");
            return;
        }
    };
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({ "old": "precious" }));
    let (directory, log) = (disk.0.join("node"), home.path().join("full.log"));
    let node = Apart::start(&directory, &log, &[]);
    let link = Link::to(trio.founder.port());
    run(&directory, &["space", "join", &trio.ticket("writer", &link)], "").ok();
    let known =
        || run(&directory, &["doc", "get", &document], "").code.filter(|code| *code == 0).ok_or("not yet".to_owned());
    wait_for("the document is there", known);
    // Long keys do not shrink when they are stored.
    let key = |n: u32| format!("{:08x}{:08x}{n}", n.wrapping_mul(2_654_435_761), n.wrapping_mul(40_503).rotate_left(9));
    let entries: serde_json::Map<String, Value> = (0..250_000).map(|n| (key(n), json!(n))).collect();
    let file = home.path().join("large.json");
    std::fs::write(&file, Value::Object(entries).to_string()).unwrap();
    let imported = run(&directory, &["doc", "import", &document, file.to_str().unwrap()], "");
    let imported = imported.fails(1, "the disk is full");
    let is_new = |value: &Value| {
        let members = value.as_object().unwrap().len();
        assert!(members == 250_001 || value["old"] == "precious" && members == 2, "{members} members");
        members == 250_001
    };
    let shown = run(&directory, &["--json", "doc", "get", &document], "").ok().json();
    let says_applied = imported.stderr.contains("applied and not saved yet");
    assert_eq!(is_new(&shown["value"]), says_applied, "{}", imported.stderr);
    for peer in trio.nodes() {
        is_new(&peer.socket().get(&document, "").unwrap().1);
    }
    // What was applied is saved when there is room, and is the same everywhere.
    disk.grow("256m");
    wait_until("edits are taken again", || match run(&directory, &["doc", "set", &document, "/more", "1"], "") {
        finished if finished.code == Some(0) => Ok(()),
        finished => Err(finished.stderr),
    });
    wait_until("all have it", || {
        for peer in trio.nodes() {
            let (_, value) = peer.socket().get(&document, "")?;
            let members = value.as_object().unwrap().len();
            let expected = if says_applied { 250_002 } else { 3 };
            if members != expected {
                return Err(format!("{members} members"));
            }
        }
        Ok(())
    });
    trio.works(&document, "a full disk elsewhere");
    node.stop();
    let _node = Apart::start(&directory, &log, &[]);
    let kept = run(&directory, &["--json", "doc", "get", &document, "/more"], "").ok().json();
    assert_eq!(kept["value"], json!(1));
}

// An edit was called saved in a file that had no name any more, and a second node started beside it.
#[test]
fn a_store_that_is_gone_is_noticed_and_nothing_is_called_saved() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("alice");
    let mut node = Node::start(&directory, &[]);
    node.run(&["space", "create", "notes"]).ok();
    let document = new_document(&node, "plan", &json!({ "a": 1 }));
    for name in ["store.redb", "store.lock"] {
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    node.run(&["doc", "set", "plan", "/a", "2"]).fails(1, "the store is not at its place any more");
    node.run(&["doc", "set", "plan", "/a", "3"]).fails(1, "no edits are taken: the store is not at its place any more");
    let stopped = |status: &Value| status["stopped"].as_str().is_some_and(|why| why.contains("is not there any more"));
    assert!(stopped(&node.json(&["status"])));
    run(&directory, &["run"], "").fails(1, "is in use by another process");
    assert_eq!(node.run(&["doc", "get", &document, "/a"]).ok().text(), "2", "what is in memory is read");
    node.stop("TERM");
    // The copy of the spaces was not lost with the store.
    node = Node::start(&directory, &[]);
    assert!(node.run(&["space", "ls"]).ok().stdout.contains("notes"));

    // Without any edit it is noticed as well.
    let moved = home.path().join("moved");
    std::fs::rename(&directory, &moved).unwrap();
    let clock = Stopwatch::start();
    wait_until("it is noticed", || {
        let status = run(&moved, &["--json", "status"], "").ok().json();
        if stopped(&status) { Ok(()) } else { Err(status.to_string()) }
    });
    assert!(clock.elapsed() < Duration::from_secs(5), "{:?}", clock.elapsed());
    run(&moved, &["run"], "").fails(1, "is in use by another process");
}

#[test]
fn modes_of_a_plain_mkdir_are_tightened() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("made");
    std::fs::create_dir(&directory).unwrap();
    // As with a umask of 002.
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o775)).unwrap();
    run(&directory, &["init"], "").ok();
    assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o755);
    let key = directory.join("identity");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    run(&directory, &["init"], "").fails(1, "--allow-loose-modes");
    run(&directory, &["init", "--allow-loose-modes"], "").ok();
}

#[test]
fn a_symbolic_link_in_the_place_of_a_file_is_not_followed() {
    use std::os::unix::fs::symlink;

    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("made");
    run(&directory, &["init"], "").ok();
    let (victim, applying) = (home.path().join("victim"), directory.join("applying"));
    std::fs::write(&victim, "precious").unwrap();
    let _ = std::fs::remove_file(&applying);
    symlink(&victim, &applying).unwrap();
    run(&directory, &["run"], "").fails(1, "it is a symbolic link");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    std::fs::remove_file(&applying).unwrap();
    let (key, elsewhere) = (directory.join("identity"), home.path().join("identity"));
    std::fs::rename(&key, &elsewhere).unwrap();
    symlink(&elsewhere, &key).unwrap();
    run(&directory, &["run"], "").fails(1, "it is a symbolic link");
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    use std::os::unix::fs::chown;

    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("made");
    run(&directory, &["init"], "").ok();
    let key = directory.join("identity");
    // Only root can give files away.
    if chown(&key, Some(65_534), None).is_err() {
        return;
    }
    run(&directory, &["init"], "").fails(1, "it belongs to user 65534");
    run(&directory, &["init", "--allow-loose-modes"], "").ok();
    chown(&key, Some(0), None).unwrap();
    chown(&directory, Some(65_534), None).unwrap();
    run(&directory, &["run"], "").fails(1, "it belongs to user 65534");
    run(&directory, &["init", "--allow-loose-modes"], "").ok();
}
