//! Two replicas on this machine, each with its own key and store: one founds a space and invites, the other joins; both write,
//! and both end with the same document. In an application they would be two devices, and the ticket would be sent or scanned.

use anabranch::{Peer, Role};
use futures::executor::block_on;

fn main() -> anyhow::Result<()> {
    block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;

    let alice = Peer::builder().directory(home.path().join("alice")).listen("/ip4/127.0.0.1/tcp/0").open().await?;
    let groceries = alice.create_space("groceries").await?;
    let list = groceries.create_document().await?;
    list.edit(|edit| {
        edit.set("/title", "For Sunday")?;
        edit.set("/items", vec!["milk", "bread"])
    })?;
    let ticket = groceries.invite(Role::Writer, 1, vec![]).await?;
    println!("alice founded a space and made a ticket: {:.24}...", ticket.to_string());

    let bob = Peer::builder().directory(home.path().join("bob")).open().await?;
    let groceries_of_bob = bob.join(&ticket).await?;
    groceries_of_bob.wait_synced().await?;
    let list_of_bob = groceries_of_bob.open(list.id()).await?;
    println!("bob joined and sees: {}", list_of_bob.json()?);

    list_of_bob.edit(|edit| edit.insert("/items/-", "apples"))?;
    list_of_bob.saved().await?;
    println!("bob added apples; that is on his disk now");

    groceries_of_bob.wait_synced().await?;
    println!("alice sees: {}", list.json()?);
    anyhow::ensure!(list.json()? == list_of_bob.json()?, "the two replicas differ");

    alice.shutdown().await;
    bob.shutdown().await;
    Ok(())
}
