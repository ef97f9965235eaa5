//! Another process of the same user, at the node's control socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anabranch_api::Hello;
use serde_json::json;

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::scene::Scene;
use crate::processes::socket::{Socket, Trouble};

/// The attacks of this kind.
pub const ALL: &[Attack] = &[
    Attack {
        name: "half-requests",
        who: Who::Process,
        does: "60 requests of twelve megabytes that do not come to their end.",
        share: Share::of(400, 4),
        strike: half_requests,
    },
    Attack {
        name: "silent-commands",
        who: Who::Process,
        does: "Hundreds of connections that ask nothing, and watchers that read nothing.",
        share: Share::of(64, 4),
        strike: silent_commands,
    },
    Attack {
        name: "deep-json",
        who: Who::Process,
        does: "Requests that are nested 100,000 deep, are no JSON, or are no text.",
        share: Share::of(64, 4),
        strike: deep_json,
    },
];

fn connect(scene: &Scene) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(scene.ground.directory.join("node.sock")).ok()?;
    stream.set_write_timeout(Some(Duration::from_millis(200))).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(Hello::ours().line().as_bytes()).ok()?;
    Some(stream)
}

fn half_requests(scene: &mut Scene) -> Result<Effect, String> {
    let large = vec![b' '; 12 << 20];
    let (mut open, mut sent) = (Vec::new(), 0);
    while scene.lasts() {
        if open.len() >= 60 {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        let Some(mut stream) = connect(scene) else { continue };
        // Most of them are not read to the end.
        let _ = stream.write_all(&large);
        sent += 1;
        open.push(stream);
    }
    reached(sent > 0, sent, format!("{} connections stay", open.len()))
}

fn silent_commands(scene: &mut Scene) -> Result<Effect, String> {
    let (mut silent, mut watching, mut sent) = (Vec::new(), Vec::new(), 0);
    while scene.lasts() {
        if silent.len() + watching.len() < 600 {
            if sent % 2 == 0 {
                silent.extend(connect(scene));
            } else if let Ok(mut socket) = Socket::open(&scene.ground.directory, Duration::from_millis(500)) {
                let _ = socket.send("watch", json!({ "document": scene.ground.document_text }));
                watching.push(socket);
            }
            sent += 1;
        } else {
            silent.remove(0);
            std::thread::sleep(Duration::from_millis(5));
        }
        if silent.is_empty() {
            break;
        }
    }
    let mut socket =
        Socket::open(&scene.ground.directory, Duration::from_secs(10)).map_err(|error| error.to_string())?;
    let status = socket.request("status", json!({}));
    let answered = !matches!(status, Err(Trouble::Unanswered(_)));
    Ok(reached(sent > 100, sent, format!("{} ask nothing, {} watch", silent.len(), watching.len()))?
        .holds(answered, "a command is not answered"))
}

fn deep_json(scene: &mut Scene) -> Result<Effect, String> {
    let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("{{\"do\":\"doc-edit\",\"edits\":{deep}");
    let requests: [Vec<u8>; 6] = [
        deep.clone().into_bytes(),
        nested.into_bytes(),
        b"{\"do\":\"\xff\xfe\"}\n".to_vec(),
        b"\0\0\0\n".to_vec(),
        b"{\"hello\":{\"protocol\":99}}\n".to_vec(),
        format!("{{\"do\":\"space-join\",\"ticket\":\"anabranch1{}\",\"timeout_ms\":1}}\n", "a".repeat(1 << 20))
            .into_bytes(),
    ];
    let (mut sent, mut refused) = (0, 0);
    while scene.lasts() {
        for request in &requests {
            let Some(mut stream) = connect(scene) else { continue };
            // It may be refused before all of it is there.
            let _ = stream.write_all(request);
            sent += 1;
            // The node's own first line, and the error.
            let answer = BufReader::new(stream).lines().map_while(Result::ok).nth(1);
            refused += u64::from(answer.is_some_and(|line| line.starts_with("{\"error\"")));
        }
    }
    Ok(reached(refused > 0, sent, format!("{refused} were refused with an error"))?
        .holds(refused * 10 >= sent * 9, format!("{} of {sent} have got no error", sent - refused)))
}
