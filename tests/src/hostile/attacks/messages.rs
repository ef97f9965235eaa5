//! Messages that need no signature: questions, lies, texts, frames that are none.

use std::time::Duration;

use anabranch_engine::wire::{Message, SpaceRoots};

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::scene::Scene;

/// The attacks of this kind.
pub const ALL: &[Attack] = &[Attack {
    name: "lying-roots",
    who: Who::Reader,
    does: "Roots that are others each time, thousands a second.",
    share: Share::NOTHING,
    strike: lying_roots,
}];

fn lying_roots(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let (members, documents) = (scene.dice.bytes().into(), Some(scene.dice.bytes().into()));
        let roots = SpaceRoots { space: 0, members, documents };
        sent += u64::from(client.say(&Message::Roots { ask: 0, answer: 0, spaces: vec![roots] }));
    }
    client.pump(Duration::from_millis(100));
    let heard = client.is_heard();
    reached(heard, sent, format!("answered at the end: {heard}; {} bytes came back", client.heard.bytes))
}
