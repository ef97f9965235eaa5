//! Two laptops that are never on at the same time, until they are: each writes while the other is closed, also to the same
//! field. When they meet, both hold everything, and the field that both wrote shows both values.

use std::path::Path;

use anabranch::{DocumentId, Peer, Role, SpaceId};
use futures::executor::block_on;

fn main() -> anyhow::Result<()> {
    block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let (of_alice, of_bob) = (home.path().join("alice"), home.path().join("bob"));
    let (space, plan) = plan_together(&of_alice, &of_bob).await?;

    write_alone(&of_alice, space, plan, "alice", "Lisbon").await?;
    write_alone(&of_bob, space, plan, "bob", "Porto").await?;

    let alice = Peer::builder().directory(&of_alice).listen("/ip4/127.0.0.1/tcp/0").open().await?;
    let bob = Peer::builder().directory(&of_bob).dial(&alice.listening()[0]).open().await?;
    let (trip_of_alice, trip_of_bob) = (opened(&alice, space)?, opened(&bob, space)?);
    trip_of_alice.synced_with(bob.device()).await?;
    trip_of_bob.synced_with(alice.device()).await?;

    let (plan_of_alice, plan_of_bob) = (trip_of_alice.open(plan).await?, trip_of_bob.open(plan).await?);
    println!("after they met, alice has: {}", plan_of_alice.json()?);
    println!("                  bob has: {}", plan_of_bob.json()?);
    anyhow::ensure!(plan_of_alice.heads()? == plan_of_bob.heads()?, "the two replicas differ");
    for conflict in plan_of_alice.conflicts("/city")? {
        println!("/city was set to {} by {:.8}", conflict.value, conflict.device.unwrap_or(alice.device()));
    }

    // Whoever decides writes again: that comes after both.
    plan_of_bob.edit(|edit| edit.set("/city", "Coimbra"))?;
    trip_of_bob.synced_with(alice.device()).await?;
    anyhow::ensure!(plan_of_alice.conflicts("/city")?.is_empty(), "the conflict is settled");
    println!("bob settled it: {}", plan_of_alice.json()?);

    alice.shutdown().await;
    bob.shutdown().await;
    Ok(())
}

/// Both are on: alice founds the space, bob joins, the document exists on both. Then both are closed.
async fn plan_together(of_alice: &Path, of_bob: &Path) -> anyhow::Result<(SpaceId, DocumentId)> {
    let alice = Peer::builder().directory(of_alice).listen("/ip4/127.0.0.1/tcp/0").open().await?;
    let trip = alice.create_space("trip").await?;
    let plan = trip.create_document().await?;
    plan.edit(|edit| edit.set("/notes", vec!["pack light"]))?;
    let bob = Peer::builder().directory(of_bob).open().await?;
    let trip_of_bob = bob.join(&trip.invite(Role::Writer, 1, vec![]).await?).await?;
    trip_of_bob.wait_synced().await?;
    alice.shutdown().await;
    bob.shutdown().await;
    Ok((trip.id(), plan.id()))
}

/// Only this one is on, without a network.
async fn write_alone(home: &Path, space: SpaceId, plan: DocumentId, name: &str, city: &str) -> anyhow::Result<()> {
    let peer = Peer::builder().directory(home).open().await?;
    let document = opened(&peer, space)?.open(plan).await?;
    document.edit(|edit| {
        edit.set("/city", city)?;
        edit.insert("/notes/-", format!("{name} was here"))
    })?;
    document.saved().await?;
    println!("{name} wrote alone: {}", document.json()?);
    peer.shutdown().await;
    Ok(())
}

fn opened(peer: &Peer, space: SpaceId) -> anyhow::Result<anabranch::Space> {
    peer.space(space).ok_or_else(|| anyhow::anyhow!("the space is gone"))
}
