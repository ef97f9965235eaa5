//! Changes and runs: of who may not write, and of who may and means harm.

use anabranch_engine::id::{ActorId, DocumentId};
use anabranch_engine::run::Run;
use anabranch_engine::space::Acl;
use anabranch_engine::wire::Lane;

use crate::hostile::attack::{Attack, Effect, Share, Who, reached};
use crate::hostile::client::Client;
use crate::hostile::scene::Scene;
use crate::sim::byzantine::forge::{self, Chain};

/// The attacks of this kind.
pub const ALL: &[Attack] = &[Attack {
    name: "reader-writes",
    who: Who::Reader,
    does: "Changes signed by a reader.",
    share: Share::NOTHING,
    strike: reader_writes,
}];

/// The list of members that an attacker's runs stand on: its own entry.
fn own_acl(client: &Client) -> Result<Acl, String> {
    let own = client.key().device();
    let member = client.log.members().into_iter().find(|member| member.device == own);
    Ok(Acl::new(vec![member.ok_or("it is no member")?.entry]))
}

/// A run of the next changes of a chain, signed by the attacker.
fn grown(client: &Client, acl: &Acl, document: DocumentId, chain: &mut Chain, count: u64) -> Run {
    let changes: Vec<_> = (0..count).map(|value| chain.grow(value)).collect();
    forge::run(client.key(), client.space(), document, acl, &changes)
}

/// Sends runs on the live lane, unasked.
fn send(client: &mut Client, acl: &Acl, runs: &[Run]) -> bool {
    client.say_on(Lane::Live, &forge::message(0, acl, runs))
}

fn reader_writes(scene: &mut Scene) -> Result<Effect, String> {
    let mut client = scene.reader()?;
    let acl = own_acl(&client)?;
    let mut sent = 0;
    while scene.lasts() && client.reconnect() {
        let runs: Vec<Run> = (0..20)
            .map(|_| {
                let mut chain = Chain::new(ActorId(scene.dice.bytes()), Vec::new(), 0);
                grown(&client, &acl, scene.ground.document, &mut chain, 1)
            })
            .collect();
        sent += u64::from(send(&mut client, &acl, &runs));
    }
    client.is_heard();
    let refused = client.heard.refusals();
    reached(refused > 0, sent, format!("{:?}", client.heard.refused))
}
