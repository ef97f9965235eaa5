//! Imports, large edits and the way back: all of it or nothing, only what differs, and no kind of value lost.

use super::*;

/// A file in a temporary folder.
fn file(home: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = home.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// One node with a space.
fn alone(home: &tempfile::TempDir) -> Node {
    let node = Node::start(&home.path().join("node"), &[]);
    node.run(&["space", "create", "notes"]).ok();
    node
}

fn names(node: &Node) -> Vec<Value> {
    node.run(&["--json", "doc", "ls"]).ok().json_lines().into_iter().map(|line| line["name"].clone()).collect()
}

// Bug: an import set the document to `{}` and then filled it, change by change; what its last line did wrong was met last.
// Cause: nothing was checked before the first change, and each change was published by itself.
// Fix: what is to be done is found and checked as a whole, made in a draft, and published at once.
#[test]
fn import_with_a_bad_line_changes_nothing() {
    let trio = Trio::start();
    let home = tempfile::tempdir().unwrap();
    let document = new_document(&trio.founder, "keep", &json!({ "old": "precious" }));
    let before = trio.agree(&document);
    let mut lines: Vec<String> = (0..4_000).map(|i| format!("\"k{i:05}\": \"{}\"", "x".repeat(100))).collect();
    let bad = |line: String| {
        let mut lines = lines.clone();
        lines.push(line);
        format!("{{\n{}\n}}", lines.join(",\n"))
    };
    let key = file(&home, "key.json", bad(format!("\"{}\": 1", "z".repeat(1_500))));
    let failed = trio.founder.run(&["doc", "import", "keep", &key]).fails(2, "a key is 1500 bytes, limit 1024");
    assert!(failed.stderr.contains("key.json") && failed.stderr.contains("line 4002"), "{}", failed.stderr);
    let deep = file(&home, "deep.json", bad(format!("\"deep\": {}1{}", "[".repeat(70), "]".repeat(70))));
    trio.founder
        .run(&["doc", "import", "keep", &deep])
        .fails(2, "nested deeper than 64 levels, the limit at line 4002");
    let plain = file(&home, "plain.json", bad(format!("\"plain\": \"{}\"", "y".repeat(300_000))));
    let refused = trio.founder.run(&["doc", "import", "keep", &plain, "--strings", "plain"]);
    refused.fails(2, "a plain string at `/plain` is 300000 bytes, limit 262144");
    let full = file(&home, "full.json", json!({ "b": "z".repeat(12_000_000) }).to_string());
    trio.founder.run(&["doc", "import", "keep", &full]).fails(2, "operations, limit 10000000");
    assert_eq!(trio.founder.heads(&document).unwrap(), before);
    assert_eq!(trio.founder.run(&["doc", "get", "keep"]).ok().json(), json!({ "name": "keep", "old": "precious" }));
    // A new document does not come to be by it either.
    for bad in [&key, &deep, &full] {
        trio.founder.run(&["doc", "import", "--new", bad, "--name", "new"]).fails(2, "limit");
    }
    assert_eq!(names(&trio.founder), [json!("keep")]);
    // A reader's does not leave anything behind.
    lines.truncate(10);
    let good = file(&home, "good.json", format!("{{{}}}", lines.join(",")));
    trio.reader.run(&["doc", "import", "keep", &good]).fails(5, "this device is a reader");
    trio.reader.run(&["doc", "import", "--new", &good]).fails(5, "this device is a reader");
    assert_eq!(names(&trio.reader), [json!("keep")]);
    trio.works(&document, "bad imports");
}

#[test]
fn unchanged_export_is_imported_without_a_change_and_the_name_stays() {
    let home = tempfile::tempdir().unwrap();
    let node = alone(&home);
    let document = new_document(&node, "plan", &json!({ "text": "words", "list": [1, 2.0, {"a": null}] }));
    let steps = "{\"op\":\"counter\",\"path\":\"/n\",\"value\":5}\n{\"op\":\"timestamp\",\"path\":\"/t\",\"ms\":7}";
    node.run_with(&["doc", "edit", "plan"], steps).ok();
    let heads = node.heads(&document).unwrap();
    let exported = node.run(&["doc", "export", "plan"]).ok().stdout;
    let imported = node.run_with(&["doc", "import", "plan", "-"], &exported).ok();
    assert!(imported.stdout.contains("nothing to change"), "{}", imported.stdout);
    assert_eq!(node.heads(&document).unwrap(), heads);
    // Only what differs is written, and a number that comes to a counter is added to it.
    let imported = node.run_with(&["--json", "doc", "import", "plan", "-"], &exported.replace("\"n\": 5", "\"n\": 8"));
    let imported = imported.ok().json();
    assert_eq!(
        (&imported["operations"], &imported["changed"], &imported["before"]),
        (&json!(1), &json!(1), &json!(heads))
    );
    node.run_with(&["doc", "edit", "plan"], "{\"op\":\"increment\",\"path\":\"/n\",\"by\":1}").ok();
    assert_eq!(node.run(&["doc", "get", "plan", "/n"]).ok().text(), "9");
    // The name stays, also where all is replaced.
    node.run_with(&["doc", "import", "plan", "-"], "{\"a\": 1}").ok();
    assert_eq!(node.run(&["doc", "get", "plan"]).ok().json(), json!({ "a": 1, "name": "plan" }));
    node.run_with(&["doc", "import", "plan", "-", "--replace"], "{\"b\": 1}").ok();
    node.run(&["doc", "set", "plan", "", "{\"c\": 1}"]).ok();
    assert_eq!(node.run(&["doc", "get", "plan"]).ok().json(), json!({ "c": 1, "name": "plan" }));
}

#[test]
fn what_a_peer_types_during_the_import_of_an_edited_export_survives() {
    let trio = Trio::start();
    let prose: Vec<String> = (0..200).map(|i| format!("line {i} of a text")).collect();
    let document = new_document(&trio.founder, "plan", &json!({ "text": prose.join("\n"), "n": 0 }));
    trio.agree(&document);
    let exported = trio.founder.run(&["doc", "export", "plan"]).ok().stdout;
    let edited = exported.replace("line 50 of", "LINE 50 of").replace("\"n\": 0", "\"n\": 1");
    trio.to_writer.cut();
    let typed: Vec<String> = ('a'..='t')
        .enumerate()
        .map(|(at, c)| json!({ "op": "splice", "path": "/text", "pos": at, "ins": c.to_string() }).to_string())
        .collect();
    trio.writer.run_with(&["doc", "edit", "plan", "--each"], &typed.join("\n")).ok();
    trio.founder.run_with(&["doc", "import", "plan", "-"], &edited).ok();
    trio.to_writer.open();
    trio.agree(&document);
    let text = trio.reader.run(&["doc", "get", "plan", "/text", "--raw"]).ok().stdout;
    assert!(text.starts_with("abcdefghijklmnopqrstline 0 of a text\n"), "{text}");
    assert!(text.contains("LINE 50 of a text\n") && !text.contains("line 50 of"), "{text}");
}

#[test]
fn typed_export_is_imported_without_loss() {
    let home = tempfile::tempdir().unwrap();
    let node = alone(&home);
    let typed = json!({
        "bytes": {"$bytes": "AAEC"}, "count": {"$counter": 300_000_000_000_i64}, "when": {"$timestamp": -1},
        "plain": {"$plain": "words"}, "text": "words", "list": [{"$plain": ""}, {"$map": {"$counter": 1}}, 1.0, 1],
        "uint": {"$uint": 1}, "name": "typed",
    });
    node.run_with(&["doc", "import", "--typed", "--new", "-"], &typed.to_string()).ok();
    assert_eq!(node.run(&["doc", "export", "typed", "--typed"]).ok().json(), typed);
    assert_eq!(
        node.run(&["doc", "get", "typed", "/count", "--typed"]).ok().json(),
        json!({"$counter": 300_000_000_000_i64})
    );
    assert_eq!(node.run(&["doc", "get", "typed", "/count"]).ok().text(), "300000000000");
    node.run(&["doc", "set", "typed", "/list/0", "{\"$counter\": 2}", "--typed"]).ok();
    node.run_with(&["doc", "edit", "typed"], "{\"op\":\"increment\",\"path\":\"/list/0\",\"by\":1}").ok();
    assert_eq!(node.run(&["doc", "get", "typed", "/list/0"]).ok().text(), "3");
    node.run(&["doc", "set", "typed", "/s", "\"x\"", "--strings", "plain"]).ok();
    assert_eq!(node.run(&["doc", "get", "typed", "/s", "--typed"]).ok().json(), json!({"$plain": "x"}));
    let wrong = node.run(&["doc", "set", "typed", "/x", "[{\"$count\": 2}]", "--typed"]);
    wrong.fails(2, "typed JSON at `/0`: `$count` is none of $counter, $timestamp");
}

#[test]
fn numbers_that_would_be_rounded_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let node = alone(&home);
    let document = new_document(&node, "n", &json!({}));
    let before = node.heads(&document).unwrap();
    let big = "123456789012345678901234567890";
    node.run(&["doc", "set", "n", "/big", big]).fails(2, "is beyond 64 bits: write it as a string");
    let line = format!("\n{{\"op\":\"set\",\"path\":\"/big\",\"value\":{big}}}");
    node.run_with(&["doc", "edit", "n"], &line).fails(2, "line 2: integer 123456789012345678901234567890 is beyond");
    node.run_with(&["doc", "import", "n", "-"], &format!("{{\"a\":\n{big}}}")).fails(2, "at line 2 column 1");
    let decimal = "123456789012345678901.5";
    let rounded = format!("number {decimal} would be rounded to 1.2345678901234568e20");
    node.run(&["doc", "set", "n", "/big", decimal]).fails(2, &rounded);
    let line = format!("{{\"op\":\"set\",\"path\":\"/big\",\"value\":{decimal}}}");
    node.run_with(&["doc", "edit", "n"], &line).fails(2, &rounded);
    node.run_with(&["doc", "import", "n", "-"], &format!("{{\"a\":\n{decimal}}}")).fails(2, &rounded);
    assert_eq!(node.heads(&document).unwrap(), before);
    for exact in ["18446744073709551615", "-9223372036854775808", "9007199254740993", "0.1"] {
        node.run(&["doc", "set", "n", "/exact", exact]).ok();
        assert_eq!(node.run(&["doc", "get", "n", "/exact"]).ok().text(), exact);
    }
}

#[test]
fn json_as_other_programs_write_it_is_read() {
    let home = tempfile::tempdir().unwrap();
    let node = alone(&home);
    let text = "\u{feff}{\r\n  \"name\": \"wide\",\r\n  \"\u{e4}\": \"\u{1f600}\"\r\n}\r\n";
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    node.run(&["doc", "import", "--new", &file(&home, "wide.json", wide)]).ok();
    assert_eq!(node.run(&["doc", "get", "wide"]).ok().json(), json!({ "name": "wide", "\u{e4}": "\u{1f600}" }));
    let imported = node.run(&["doc", "import", "wide", &file(&home, "mark.json", text)]).ok();
    assert!(imported.stdout.contains("nothing to change"), "{}", imported.stdout);
    let latin = file(&home, "latin.json", b"{\"a\":\n\"\xe4\"}");
    node.run(&["doc", "import", "wide", &latin]).fails(2, "neither UTF-8 nor UTF-16: byte 0xe4 in line 2");
}

#[test]
fn edits_of_any_size_are_made_as_a_whole() {
    let trio = Trio::start();
    let document = new_document(&trio.founder, "plan", &json!({ "text": "short" }));
    let node = &trio.founder;
    let long = "lorem ipsum dolor sit amet\n".repeat(8_000);
    node.run_with(&["doc", "set", "plan", "/text", "-"], &json!(long).to_string()).ok();
    let other: String =
        (0..220_000_u32).map(|i| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let mut lines = vec![
        json!({ "op": "text", "path": "/text", "text": other }),
        json!({ "op": "set", "path": "/after", "value": 1 }),
    ];
    let text = |lines: &[Value]| lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let before = trio.agree(&document);
    // A bad line at the end: nothing of it is made.
    lines.push(json!({ "op": "remove", "path": "/nothing" }));
    node.run_with(&["doc", "edit", "plan"], &text(&lines)).fails(4, "line 3: there is nothing at `/nothing`");
    assert_eq!(node.heads(&document).unwrap(), before);
    lines.pop();
    node.run_with(&["doc", "edit", "plan"], &text(&lines)).ok();
    trio.agree(&document);
    let read = trio.reader.run(&["doc", "get", "plan"]).ok().json();
    assert_eq!((read["text"].as_str(), &read["after"]), (Some(other.as_str()), &json!(1)));
    trio.works(&document, "large edits");
}

#[test]
fn edit_that_changes_nothing_says_so() {
    let home = tempfile::tempdir().unwrap();
    let node = alone(&home);
    let document = new_document(&node, "plan", &json!({ "a": 1, "t": "words" }));
    let before = node.heads(&document).unwrap();
    let set = node.run(&["doc", "set", "plan", "/a", "1"]).ok();
    assert!(set.stdout.contains("no change, at "), "{}", set.stdout);
    let lines = "{\"op\":\"set\",\"path\":\"/a\",\"value\":1}\n{\"op\":\"text\",\"path\":\"/t\",\"text\":\"words\"}";
    let edited = node.run_with(&["--json", "doc", "edit", "plan"], lines).ok().json();
    assert_eq!((&edited["edits"], &edited["changes"]), (&json!(2), &json!(0)));
    let edited = node.run_with(&["--json", "doc", "edit", "plan", "--each"], lines).ok().json();
    assert_eq!((&edited["edits"], &edited["changes"]), (&json!(2), &json!(0)));
    assert_eq!(node.heads(&document).unwrap(), before);
}

#[test]
fn empty_object_makes_a_document_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let node = alone(&home);
    let made = node.run_with(&["doc", "import", "--new", "-"], "{}").ok();
    assert!(made.stdout.contains("imported in 1 change, saved, now at "), "{}", made.stdout);
    assert!(made.stdout.contains(": an empty document"), "{}", made.stdout);
    let made = node.run_with(&["--json", "doc", "import", "--new", "-"], "{}").ok().json();
    assert_eq!((&made["changes"], &made["revert"]), (&json!(1), &Value::Null));
    assert_eq!(names(&node).len(), 2);
}

#[test]
fn import_says_what_it_would_do_and_how_to_go_back() {
    let home = tempfile::tempdir().unwrap();
    let node = alone(&home);
    let document = new_document(&node, "plan", &json!({ "a": 1, "b": "words", "c": [1, 2] }));
    let before = node.heads(&document).unwrap();
    let content = node.run(&["doc", "export", "plan", "--typed"]).ok().json();
    let new = json!({ "a": 2, "b": "word", "c": [1, 2, 3] }).to_string();
    let check = node.run_with(&["doc", "import", "plan", "-", "--check"], &new).ok();
    assert!(check.stdout.contains("would be imported in 1 change of 3 operations"), "{}", check.stdout);
    assert!(check.stdout.contains("1 added, 2 changed, 0 removed"), "{}", check.stdout);
    node.run_with(&["doc", "import", "--new", "-", "--check"], &new).ok();
    let check = node.run_with(&["doc", "import", "--new", "-", "--check"], "{}").ok();
    assert!(check.stdout.contains("would be imported in 1 change") && check.stdout.contains("an empty document"));
    assert_eq!((names(&node), node.heads(&document).unwrap()), (vec![json!("plan")], before));
    let imported = node.run_with(&["doc", "import", "plan", "-"], &new).ok();
    let revert = imported.stdout.split("to go back: anabranch ").nth(1).unwrap().trim().to_owned();
    node.run(&revert.split(' ').collect::<Vec<_>>()).ok();
    assert_eq!(node.run(&["doc", "export", "plan", "--typed"]).ok().json(), content);
    node.run(&["doc", "revert", "plan", "--to", "00000000"]).fails(4, "is not in this document");
}

// Nobody is made less than a writer by others yet; who leaves is one no more.
#[test]
fn whoever_leaves_during_an_import_is_told_and_the_document_is_the_old_or_the_new_one_everywhere() {
    let trio = Trio::start();
    let home = tempfile::tempdir().unwrap();
    let entries: serde_json::Map<String, Value> = (0..80_000).map(|n| (format!("key {n:05}"), json!(n))).collect();
    let path = file(&home, "large.json", Value::Object(entries).to_string());
    let mut told = Vec::new();
    for wait in [0, 100, 400, 1_000] {
        let name = format!("plan {wait}");
        let document = new_document(&trio.founder, &name, &json!({ "old": "precious" }));
        trio.agree(&document);
        let importing = std::thread::scope(|scope| {
            let importing = scope.spawn(|| trio.writer.run(&["doc", "import", &document, &path]));
            std::thread::sleep(Duration::from_millis(wait));
            trio.writer.run(&["space", "leave", "expedition", "--force"]).ok();
            importing.join().unwrap()
        });
        match importing.code {
            Some(0) => {}
            Some(4) => assert!(importing.stderr.contains("space"), "{}", importing.stderr),
            code => panic!("{code:?}: {}", importing.stderr),
        }
        told.push(importing.code);
        // Whether it has reached anybody or not, the others agree, and on one of the two.
        trio.writer.run(&["space", "join", &trio.ticket("writer", &trio.to_writer)]).ok();
        trio.works(&document, "after it");
        for node in trio.nodes() {
            let mut value = node.socket().get(&document, "").unwrap().1;
            let content = value.as_object_mut().unwrap();
            for key in ["name", "founder", "writer"] {
                content.remove(key).unwrap();
            }
            let is_old = value == json!({ "old": "precious" });
            assert!(is_old || value.as_object().unwrap().len() == 80_000, "{:?}", value.as_object().unwrap().len());
        }
    }
    println!("imports were told: {told:?}");
}
