//! What members wrote at the same time is resolved by a command.

use super::*;

/// Two nodes with one document that were apart while each did its edits.
struct Apart {
    here: Node,
    there: Node,
    link: Link,
    document: String,
    _home: tempfile::TempDir,
}

impl Apart {
    fn start(content: &Value, here: &[Value], there: &[Value]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let founder = Node::start(&home.path().join("here"), &["--listen", LOOPBACK, "--announce", "none"]);
        founder.run(&["space", "create", "work"]).ok();
        let link = Link::to(founder.port());
        let other = Node::start(&home.path().join("there"), &[]);
        let address = founder.address_through(link.port());
        let ticket = founder.run(&["space", "invite", "--address", &address]).ok().text().to_owned();
        other.run(&["space", "join", &ticket]).ok();
        let document = new_document(&founder, "plan", content);
        let apart = Self { here: founder, there: other, link, document, _home: home };
        apart.agree();
        apart.link.cut();
        let lines = |edits: &[Value]| edits.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        apart.here.run_with(&["doc", "edit", "plan", "--each"], &lines(here)).ok();
        apart.there.run_with(&["doc", "edit", "plan", "--each"], &lines(there)).ok();
        apart.link.open();
        apart.agree();
        apart
    }

    fn agree(&self) {
        wait_for("both have the same heads", || equal_heads(&[&self.here, &self.there], &self.document));
    }

    /// What is listed, on both.
    fn conflicts(&self) -> Vec<Value> {
        self.agree();
        let listed = |node: &Node| node.run(&["--json", "doc", "conflicts", "plan"]).ok().json_lines();
        assert_eq!(listed(&self.here), listed(&self.there));
        listed(&self.here)
    }

    fn get(&self, path: &str) -> Value {
        self.there.run(&["doc", "get", "plan", path, "--typed"]).ok().json()
    }
}

fn set(path: &str, value: &Value) -> Value {
    json!({ "op": "set", "path": path, "value": value })
}

#[test]
fn conflicts_are_resolved_one_by_one_or_all_at_once() {
    let content = json!({ "list": [0, 1, 2], "title": "a plan", "n": 0, "k": 0, "m": 0, "c": 0 });
    let here = [
        set("/title", &json!("here")),
        set("/list/1", &json!({ "x": 1 })),
        json!({ "op": "counter", "path": "/n", "value": 5 }),
        set("/k", &json!(1)),
        set("/m", &json!("here")),
        json!({ "op": "counter", "path": "/c", "value": 1 }),
    ];
    let there = [
        set("/title", &json!("there")),
        set("/list/1", &json!("there")),
        json!({ "op": "timestamp", "path": "/n", "ms": 7 }),
        set("/k", &json!(2)),
        set("/m", &json!("there")),
        json!({ "op": "counter", "path": "/c", "value": 2 }),
    ];
    let apart = Apart::start(&content, &here, &there);
    let conflicts = apart.conflicts();
    assert_eq!(conflicts.len(), 6, "{conflicts:?}");

    // By number, as they are listed.
    let second = conflicts.iter().find(|line| line["path"] == "/title").unwrap()["values"][1]["value"].clone();
    let resolved = apart.here.json(&["doc", "resolve", "plan", "/title", "--take", "2"]);
    assert_eq!(
        (&resolved["conflicts"], &resolved["changes"], &resolved["left"], &resolved["saved"]),
        (&json!(1), &json!(1), &json!(5), &json!(true))
    );
    apart.agree();
    assert_eq!(apart.get("/title"), second);
    apart.here.run(&["doc", "resolve", "plan", "/title", "--take", "2"]).fails(4, "there is no conflict at `/title`");
    apart.here.run(&["doc", "resolve", "plan", "/k", "--take", "3"]).fails(2, "`/k` has the values 1 to 2");
    apart.here.run(&["doc", "resolve", "plan", "--all", "--take", "3"]).fails(2, "give its path");
    // By whose it is, and of its kind.
    apart.here.run(&["doc", "resolve", "plan", "/n", "--take", "mine"]).ok();
    apart.there.run(&["doc", "resolve", "plan", "/list/1", "--take", "mine"]).ok();
    apart.agree();
    assert_eq!((apart.get("/n"), apart.get("/list")), (json!({ "$counter": 5 }), json!([0, "there", 2])));
    // Another value.
    apart.here.run(&["doc", "resolve", "plan", "/k", "--value", "{\"$plain\":\"3\"}", "--typed"]).ok();
    apart.agree();
    apart.here.run(&["doc", "resolve", "plan", "/c", "--value", "7"]).ok();
    apart.agree();
    assert_eq!((apart.get("/k"), apart.get("/c")), (json!({ "$plain": "3" }), json!({ "$counter": 7 })));
    // All that are left.
    let shown = apart.get("/m");
    let said = apart.there.run(&["doc", "resolve", "plan", "--all", "--take", "shown"]).ok();
    assert!(said.stdout.contains("1 conflict resolved"), "{}", said.stdout);
    assert_eq!(apart.conflicts(), Vec::<Value>::new());
    assert_eq!(apart.get("/m"), shown);
    let said = apart.there.run(&["doc", "resolve", "plan", "--all", "--take", "newest"]).ok();
    assert!(said.stdout.contains("no change") && said.stdout.contains("nothing to resolve"), "{}", said.stdout);
}

#[test]
fn lost_edits_are_brought_back_or_given_up() {
    let content = json!({ "data": { "a": 1, "b": 2 }, "tasks": [{ "t": "one" }], "n": 0, "x": { "y": 1 } });
    let counter = |value: i64| json!({ "op": "counter", "path": "/n", "value": value });
    let here = [
        set("/data", &json!({ "a": 1, "b": 4 })),
        json!({ "op": "remove", "path": "/tasks/0" }),
        json!({ "op": "remove", "path": "/x" }),
    ];
    let there = [set("/data/a", &json!(3)), set("/tasks/0/done", &json!(true)), set("/x/y", &json!(2)), counter(1)];
    let apart = Apart::start(&content, &here, &there);
    let lost: Vec<Value> = apart.conflicts().into_iter().map(|line| line["path"].clone()).collect();
    assert_eq!(lost.len(), 3, "{lost:?}");
    let node = &apart.here;
    node.run(&["doc", "resolve", "plan", "/data/a", "--take", "newest"]).fails(4, "only lost edits");
    node.run(&["doc", "resolve", "plan", "/tasks/0/done", "--take", "lost"]).fails(2, "an element of a list");
    node.run(&["doc", "resolve", "plan", "/x/y", "--take", "lost"]).fails(4, "there is nothing at `/x`");
    let resolved = node.json(&["doc", "resolve", "plan", "/data/a", "--take", "lost"]);
    assert_eq!((&resolved["conflicts"], &resolved["lost"], &resolved["left"]), (&json!(0), &json!(1), &json!(2)));
    apart.agree();
    assert_eq!(apart.get("/data"), json!({ "a": 3, "b": 4 }));
    let before = apart.get("");
    // Only conflicts are of somebody.
    assert_eq!(node.json(&["doc", "resolve", "plan", "--all", "--take", "mine"])["left"], json!(2));
    let resolved = node.json(&["doc", "resolve", "plan", "--all", "--take", "shown"]);
    assert_eq!((&resolved["lost"], &resolved["left"]), (&json!(2), &json!(0)));
    assert_eq!(apart.conflicts(), Vec::<Value>::new());
    assert_eq!(apart.get(""), before, "nothing else has changed");
}

#[test]
fn a_conflict_of_values_that_no_change_holds_is_resolved_as_a_whole() {
    let long = |letter: &str| json!(letter.repeat(199_000));
    let here = [set("/a", &long("a")), set("/b", &long("b"))];
    let there = [set("/a", &long("c")), set("/b", &long("d"))];
    let apart = Apart::start(&json!({ "a": 0, "b": 0 }), &here, &there);
    let resolved = apart.there.json(&["doc", "resolve", "plan", "--all", "--take", "mine"]);
    assert_eq!((&resolved["conflicts"], &resolved["left"]), (&json!(2), &json!(0)));
    assert!(resolved["changes"].as_u64().unwrap() > 1, "{resolved}");
    assert_eq!(apart.conflicts(), Vec::<Value>::new());
    assert_eq!((apart.get("/a"), apart.get("/b")), (long("c"), long("d")));
}
