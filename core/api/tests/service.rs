//! The service over whole replicas: what is answered, what is given up, what waits. No runtime, no sockets.
#![allow(clippy::unwrap_used, reason = "the helpers are tests too")]

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use anabranch::{Peer, Role};
use anabranch_api::{
    Answer, Caller, Code, Command, Content, EditStep, Failure, Host, Job, Line, Reading, SameThread, Service, Since,
    Which,
};
use futures::StreamExt as _;
use futures::executor::block_on;
use futures::future::{Either, select};
use futures_timer::Delay;
use serde_json::json;

fn peer() -> Peer {
    block_on(Peer::builder().listen("/ip4/127.0.0.1/tcp/0").open()).unwrap()
}

fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match block_on(select(pin!(future), Delay::new(Duration::from_secs(30)))) {
        Either::Left((done, _)) => done,
        Either::Right(_) => panic!("{what}: not within 30 s"),
    }
}

/// The items of an answer, as JSON, and its end.
fn all(answer: Answer) -> (Vec<serde_json::Value>, Result<serde_json::Value, Failure>) {
    let mut items = Vec::new();
    for line in within("an answer", answer.collect::<Vec<_>>()) {
        match line {
            Line::Item(item) => items.push(serde_json::to_value(item).unwrap()),
            Line::Ok(last) => return (items, Ok(serde_json::to_value(last).unwrap())),
            Line::Error(failure) => return (items, Err(failure)),
        }
    }
    panic!("an answer without an end: {items:?}");
}

fn ask(service: &Service, request: Command) -> Result<serde_json::Value, Failure> {
    all(service.call(Caller::Owner, request, Vec::new())).1
}

/// A replica with the space `work`, in which is the document `plan`.
fn with_plan(host: impl Host) -> (Peer, Service) {
    let peer = peer();
    let space = block_on(peer.create_space("work")).unwrap();
    let document = block_on(space.create_with_first_edit()).unwrap();
    document.edit(|edit| edit.set("/name", "plan")).unwrap();
    block_on(document.saved()).unwrap();
    (peer.clone(), Service::new(peer, host))
}

fn plan() -> Which {
    Which { space: None, default_space: None, document: "plan".into() }
}

fn set(value: i64) -> Command {
    let edits = vec![EditStep::Set { path: "/n".into(), value: json!(value) }];
    Command::DocEdit { which: plan(), edits, each: false, saved: true, reading: Reading::default(), lines: vec![] }
}

fn get(path: &str) -> Command {
    Command::DocGet { which: plan(), path: path.into(), at: vec![], typed: false }
}

fn watch(since: Option<Since>) -> Command {
    Command::Watch { space: None, default_space: None, document: None, since }
}

fn is_pending(answer: &mut Answer) -> bool {
    answer.poll_next_unpin(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn requests_are_answered_with_values_and_with_codes() {
    let (peer, service) = with_plan(SameThread);
    assert_eq!(ask(&service, set(7)).unwrap()["changes"], 1);
    assert_eq!(ask(&service, get("/n")).unwrap()["value"], 7);
    assert_eq!(ask(&service, get("/zzz")).unwrap_err().code, Code::NotFound);
    assert_eq!(ask(&service, get("/zzz~")).unwrap_err().code, Code::Usage);
    let listed = all(service.call(Caller::Owner, Command::SpaceList, vec![]));
    assert_eq!((listed.0.len(), listed.1.unwrap()), (1, json!({ "items": 1 })));
    let status = ask(&service, Command::Status).unwrap();
    assert_eq!(status["device"], json!(peer.device().to_string()));
    assert_eq!(status.get("pid"), None, "it runs in no process of its own");
    ask(&service, Command::SpaceCreate { name: "work".into(), force: true }).unwrap();
    let ambiguous = ask(&service, Command::DocNew { space: Some("work".into()), name: None, force: false });
    assert_eq!(ambiguous.unwrap_err().code, Code::Ambiguous);
    let renewed = ask(&service, Command::IdRenew { timeout_ms: 0, force: true });
    assert_eq!(renewed.unwrap_err().code, Code::Refused, "this host cannot do it");
    block_on(peer.shutdown());
    assert_eq!(
        ask(&service, Command::SpaceCreate { name: "late".into(), force: false }).unwrap_err().code,
        Code::Stopped
    );
}

#[test]
fn import_and_export_are_the_same_text() {
    let (peer, service) = with_plan(SameThread);
    let value = json!({ "name": "plan", "text": "ü".repeat(600_000) });
    let text = value.to_string().into_bytes();
    let request = Command::DocImport {
        space: None,
        default_space: None,
        document: Some("plan".into()),
        name: None,
        force: false,
        bytes: text.len(),
        reading: Reading::default(),
        replace: false,
        check: false,
    };
    all(service.call(Caller::Owner, request, text)).1.unwrap();
    let (pieces, _) =
        all(service.call(Caller::Owner, Command::DocExport { which: plan(), at: vec![], typed: false }, vec![]));
    assert!(pieces.len() > 1);
    let exported: String = pieces.iter().map(|piece| piece.as_str().unwrap()).collect();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&exported).unwrap(), value);
    block_on(peer.shutdown());
}

#[test]
fn watch_goes_on_from_a_position_and_refuses_one_that_is_not_here() {
    let (peer, service) = with_plan(SameThread);
    let mut answer = service.call(Caller::Owner, watch(Some(Since::Seq(0))), vec![]);
    let Some(Line::Item(Content::FeedLine(first))) = within("a line", answer.next()) else { panic!("no line") };
    assert_eq!((first.name.as_deref(), first.seq), (Some("plan"), peer.feed_end().seq));
    assert!(is_pending(&mut answer));
    ask(&service, set(1)).unwrap();
    let Some(Line::Item(Content::FeedLine(second))) = within("a line", answer.next()) else { panic!("no line") };
    let mut again = service.call(Caller::Owner, watch(Some(Since::Position(first.position.clone()))), vec![]);
    let Some(Line::Item(Content::FeedLine(same))) = within("a line", again.next()) else { panic!("no line") };
    assert_eq!((same.seq, same.heads), (second.seq, second.heads));

    let beyond = ask(&service, watch(Some(Since::Seq(second.seq + 1)))).unwrap_err();
    assert_eq!(beyond.code, Code::NotFound);
    let elsewhere = first.position.replace(&first.position[..4], "0000");
    let elsewhere = ask(&service, watch(Some(Since::Position(elsewhere)))).unwrap_err();
    assert!(elsewhere.message.contains("of store 0000"), "{elsewhere}");

    block_on(peer.shutdown());
    let (_, end) = all(answer);
    assert_eq!(end.unwrap_err().code, Code::Stopped);
}

#[test]
fn answers_that_are_dropped_hold_nothing() {
    let (peer, service) = with_plan(SameThread);
    // A space that it waits for, because nobody lets it in.
    let inviter = self::peer();
    let elsewhere = block_on(inviter.create_space("elsewhere")).unwrap();
    let ticket = block_on(elsewhere.invite(Role::Writer, 1, vec![])).unwrap();
    block_on(inviter.shutdown());
    let ticket = ticket.to_string();
    let hour = 3_600_000;
    let requests = [
        Command::SpaceJoin { ticket, timeout_ms: hour },
        watch(None),
        Command::Watch { space: Some("work".into()), default_space: None, document: Some("plan".into()), since: None },
        Command::WaitSynced { space: Some(elsewhere.id().to_string()), peer: None, timeout_ms: hour },
        Command::PeerDial { address: "/ip4/127.0.0.1/tcp/1".into(), timeout_ms: hour },
    ];
    let mut answers: Vec<Answer> =
        requests.into_iter().map(|request| service.call(Caller::Owner, request, vec![])).collect();
    assert!(answers.iter_mut().all(is_pending));
    let mut events = peer.events();
    drop((peer, service));
    let ends = async { while events.next().await.is_some() {} };
    let mut ends = pin!(ends);
    let pause = Delay::new(Duration::from_millis(200));
    assert!(matches!(block_on(select(ends.as_mut(), pause)), Either::Right(_)), "answers keep the replica open");
    drop(answers);
    within("the end of the replica", ends);
}

/// Keeps jobs instead of doing them.
#[derive(Clone, Default)]
struct Later(Arc<Mutex<Vec<Job>>>);

impl Host for Later {
    fn run(&self, job: Job) {
        self.0.lock().unwrap().push(job);
    }
}

#[test]
fn job_that_nobody_waits_for_any_more_is_not_begun() {
    let later = Later::default();
    let (peer, service) = with_plan(later.clone());
    let mut answer = service.call(Caller::Owner, set(1), vec![]);
    assert!(is_pending(&mut answer));
    let job = later.0.lock().unwrap().pop().unwrap();
    drop(answer);
    job();
    let mut answer = service.call(Caller::Owner, get("/n"), vec![]);
    assert!(is_pending(&mut answer));
    later.0.lock().unwrap().pop().unwrap()();
    assert_eq!(all(answer).1.unwrap_err().code, Code::NotFound, "the edit was not made");
    block_on(peer.shutdown());
}

fn import(name: &str) -> (Command, Vec<u8>) {
    let text = br#"{"n":1}"#.to_vec();
    let request = Command::DocImport {
        space: None,
        default_space: None,
        document: None,
        name: Some(name.into()),
        force: false,
        bytes: text.len(),
        reading: Reading::default(),
        replace: false,
        check: false,
    };
    (request, text)
}

/// Polls an answer up to its next job, which is not done.
fn up_to_a_job(answer: &mut Answer, later: &Later) {
    for _ in 0..1_000 {
        assert!(is_pending(answer));
        if !later.0.lock().unwrap().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no job within 5 s");
}

fn do_jobs(later: &Later) {
    let jobs = std::mem::take(&mut *later.0.lock().unwrap());
    jobs.into_iter().for_each(|job| job());
}

#[test]
fn import_that_nobody_waits_for_any_more_is_not_published() {
    let later = Later::default();
    let (peer, service) = with_plan(later.clone());
    let (request, text) = import("notes");
    let mut answer = service.call(Caller::Owner, request, text);
    // Read, and made in a draft.
    for _ in 0..2 {
        up_to_a_job(&mut answer, &later);
        do_jobs(&later);
    }
    up_to_a_job(&mut answer, &later);
    drop(answer);
    do_jobs(&later);
    let space = peer.space(peer.spaces()[0].space).unwrap();
    assert_eq!(space.find("notes"), []);
    ask(&service, Command::DocNew { space: None, name: Some("notes".into()), force: false }).unwrap();
    block_on(peer.shutdown());
}

// One lock was held, or waited for, by whoever gave a name, also while nobody took their answers.
#[test]
fn name_of_an_answer_that_is_not_taken_keeps_out_only_that_name() {
    let later = Later::default();
    let (peer, service) = with_plan(later.clone());
    let (request, text) = import("notes");
    let mut stalled = service.call(Caller::Owner, request, text);
    up_to_a_job(&mut stalled, &later);
    let new = |name: &str| Command::DocNew { space: None, name: Some(name.into()), force: false };
    ask(&service, new("other")).unwrap();
    let refused = ask(&service, new("notes")).unwrap_err();
    assert_eq!(refused.code, Code::Usage);
    assert!(refused.message.contains("the name `notes` is being given to another document"), "{refused}");
    // When its caller goes before it is published, it is free; afterwards it is taken.
    drop(stalled);
    do_jobs(&later);
    ask(&service, new("notes")).unwrap();
    assert!(ask(&service, new("notes")).unwrap_err().message.contains("here already"));
    block_on(peer.shutdown());
}

#[test]
fn job_that_does_not_end_is_reported_as_a_failure_inside() {
    let later = Later::default();
    let (peer, service) = with_plan(later.clone());
    let mut answer = service.call(Caller::Owner, set(1), vec![]);
    assert!(is_pending(&mut answer));
    // As a thread that panics drops it.
    later.0.lock().unwrap().clear();
    assert_eq!(all(answer).1.unwrap_err().code, Code::Internal);
    block_on(peer.shutdown());
}

#[test]
fn waiting_ends_when_its_time_is_over() {
    let (peer, service) = with_plan(SameThread);
    let dial = Command::PeerDial { address: "/ip4/127.0.0.1/tcp/1".into(), timeout_ms: 100 };
    assert_eq!(ask(&service, dial).unwrap_err().code, Code::TimedOut);
    block_on(peer.shutdown());
}
