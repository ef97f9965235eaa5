//! Following: the feed, one document, or the moment when all hold the same.

use anabranch::{ChangeHash, ChangeInfo, DeviceId, Document, FeedPosition, Space, SpaceId};
use futures::StreamExt;

use crate::service::names::texts;
use crate::service::spaces::title;
use crate::service::status::hex;
use crate::service::{Items, Service, TimeLimit, yield_now};
use crate::{ChangedLine, Code, Count, Failure, FeedLine, HeadLine, Since, SyncedLine, Which};

impl Service {
    /// Says what changes until the replica stops.
    pub(super) async fn watch(
        &self,
        space: Option<&str>,
        document: Option<&Which>,
        since: Option<Since>,
        items: &Items,
    ) -> Result<(), Failure> {
        match document {
            Some(which) => self.watch_document(which, items).await,
            None => {
                let only = space.map(|space| self.space(Some(space))).transpose()?;
                self.watch_feed(only.map(|space| space.id()), since, items).await
            }
        }
    }

    async fn watch_feed(&self, only: Option<SpaceId>, since: Option<Since>, items: &Items) -> Result<(), Failure> {
        let end = self.peer().feed_end();
        let after = match since {
            None => end,
            Some(Since::Seq(seq)) => FeedPosition { seq, ..end },
            Some(Since::Position(text)) => text.parse().map_err(Failure::usage)?,
        };
        let mut feed = self.peer().feed(after)?;
        while let Some(row) = feed.next().await {
            let row = row?;
            if only.is_none_or(|only| only == row.space) {
                let info = self.peer().space(row.space).and_then(|space| space.info(&row.document));
                let summary = info.map(|info| info.summary).unwrap_or_default();
                let line = FeedLine {
                    seq: row.seq,
                    position: feed.position().to_string(),
                    space: row.space.to_string(),
                    document: row.document.to_string(),
                    name: summary.name,
                    changed_s: summary.changed_s,
                    heads: texts(&row.heads),
                };
                items.put(line).await;
            }
        }
        Ok(())
    }

    async fn watch_document(&self, which: &Which, items: &Items) -> Result<(), Failure> {
        let mut document = self.open(which).await?;
        let mut seen = document.heads()?;
        loop {
            let mut changes = document.subscribe(seen.clone())?;
            while let Some(changed) = changes.next().await {
                let line = ChangedLine {
                    document: document.id().to_string(),
                    patches: changed.patches.iter().map(anabranch::Patch::to_json).collect(),
                    heads: texts(&changed.heads),
                    by: self.head_lines(&document, &changed.heads),
                    texts: Vec::new(),
                };
                seen = changed.heads;
                items.put(line).await;
            }
            if self.peer().stopped().is_some() {
                return Ok(());
            }
            // It was made again after damage, and goes on; or the space was left, and it is not found.
            let (space, id) = (document.space().id(), document.id());
            let space = self
                .peer()
                .space(space)
                .ok_or_else(|| Failure::not_found(format!("no space {space} here any more")))?;
            document = space.open(id).await?;
            yield_now().await;
        }
    }

    /// The error that ends a watch.
    pub(super) fn ended(&self) -> Failure {
        let why = self.peer().stopped().unwrap_or_else(|| "it was closed".to_owned());
        Failure::new(Code::Stopped, format!("the replica has stopped: {why}"))
    }

    /// Says for each space when it was found equal.
    pub(super) async fn wait_synced(
        &self,
        space: Option<&str>,
        peer: Option<&str>,
        timeout_ms: u64,
        items: &Items,
    ) -> Result<Count, Failure> {
        let (spaces, peer) = self.what_to_wait_for(space, peer)?;
        let mut limit = TimeLimit::of_ms(timeout_ms);
        let total = spaces.len();
        for space in spaces {
            if peer.is_some() || !is_alone(&space) {
                let waiting = async {
                    match peer {
                        Some(peer) => space.synced_with(peer).await,
                        None => space.wait_synced().await,
                    }
                };
                match limit.of(waiting).await {
                    Some(synced) => synced?,
                    None => return Err(self.not_synced(&space, peer, timeout_ms)),
                }
            }
            items.put(synced_line(&space, peer)).await;
        }
        Ok(Count { items: total })
    }

    fn what_to_wait_for(
        &self,
        space: Option<&str>,
        peer: Option<&str>,
    ) -> Result<(Vec<Space>, Option<DeviceId>), Failure> {
        let peer = peer.map(|text| self.device(text)).transpose()?;
        let spaces = match space {
            Some(space) => vec![self.space(Some(space))?],
            None => self.peer().spaces().iter().filter_map(|status| self.peer().space(status.space)).collect(),
        };
        if spaces.is_empty() {
            return Err(Failure::not_found("there is no space here, so nothing to wait for"));
        }
        Ok((spaces, peer))
    }

    /// Why it did not come about, as far as can be seen.
    fn not_synced(&self, space: &Space, peer: Option<DeviceId>, timeout_ms: u64) -> Failure {
        let connected = space.status().map(|status| status.peers).unwrap_or_default();
        let wanted = |device: &DeviceId| peer.is_none_or(|peer| peer == *device);
        let behind: Vec<String> = connected
            .iter()
            .filter(|(device, in_sync)| wanted(device) && !in_sync)
            .map(|(device, _)| format!("{device:.8} is connected and not in sync yet"))
            .collect();
        let why = if space.role().is_none() {
            "this device has not been admitted to it yet".to_owned()
        } else if !behind.is_empty() {
            behind.join(", ")
        } else if connected.iter().any(|(device, _)| wanted(device)) {
            "no comparison has come back yet".to_owned()
        } else {
            let failures: Vec<String> = self
                .peer()
                .peers()
                .into_iter()
                .filter(|status| wanted(&status.peer) && !status.connected)
                .filter_map(|status| status.last_failure.map(|why| format!("{:.8}: {why}", status.peer)))
                .collect();
            let who = peer.map_or("no member is connected".to_owned(), |peer| format!("{peer:.8} is not connected"));
            if failures.is_empty() { who } else { format!("{who} ({})", failures.join("; ")) }
        };
        Failure::timed_out(format!(
            "space {} was not found in sync within {} s: {why}",
            title(space),
            timeout_ms as f64 / 1_000.0
        ))
    }

    /// Who made these changes, and when. Nothing once the document is gone.
    fn head_lines(&self, document: &Document, heads: &[ChangeHash]) -> Vec<HeadLine> {
        let line = |change: ChangeInfo| HeadLine {
            hash: change.hash.to_string(),
            device: change.device.map(|device| device.to_string()),
            device_name: change.device.and_then(|device| self.peer().device_name(&device)),
            wall_s: change.wall_s,
        };
        heads.iter().filter_map(|head| document.change(head).ok().flatten()).map(line).collect()
    }
}

/// We are its only member, so that all there is of it is in sync.
fn is_alone(space: &Space) -> bool {
    space.role().is_some() && space.members().len() == 1
}

fn synced_line(space: &Space, peer: Option<DeviceId>) -> SyncedLine {
    let status = space.status();
    let root = status.as_ref().map(|status| hex(&status.root)).unwrap_or_default();
    let connected = status.map(|status| status.peers).unwrap_or_default();
    let in_sync = connected.into_iter().filter(|(device, in_sync)| *in_sync && peer.is_none_or(|peer| peer == *device));
    SyncedLine {
        space: space.id().to_string(),
        name: space.name(),
        root,
        peers: in_sync.map(|(device, _)| device.to_string()).collect(),
        alone: is_alone(space),
    }
}
