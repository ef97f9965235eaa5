//! Who has nothing but the port, or a ticket and no role: connections, handshakes, places.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::scene::Scene;

/// The attacks of this kind.
pub const ALL: &[Attack] = &[Attack {
    name: "garbage",
    who: Who::Stranger,
    does: "64 connections at a time of random bytes.",
    share: Share::NOTHING,
    strike: garbage,
}];

/// A connection that waits for nothing.
fn knock(scene: &Scene) -> Option<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, scene.ground.port)).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// The other side has ended it.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn garbage(scene: &mut Scene) -> Result<Effect, String> {
    let (mut open, mut closed, mut sent) = (Vec::new(), 0u64, 0);
    while scene.lasts() {
        while open.len() < 64 {
            let Some(mut stream) = knock(scene) else { break };
            let bytes: [u8; 4096] = scene.dice.bytes();
            sent += u64::from(stream.write_all(&bytes).is_ok());
            open.push(stream);
        }
        open.retain_mut(|stream| !is_closed(stream));
        closed += 64u64.saturating_sub(open.len() as u64);
        std::thread::sleep(Duration::from_millis(5));
    }
    open.iter().for_each(|stream| _ = stream.shutdown(Shutdown::Both));
    reached(closed > 0, sent, format!("{closed} connections were closed"))
}
