//! What the service needs of the node around it: threads, where it runs, another key.

use std::path::PathBuf;

use anabranch_api::{self as api, Code, Failure, Host, HostLine, Job};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

/// Somebody asks for another key, and waits for what comes of it.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) answer: oneshot::Sender<Result<anabranch::Renewed, Failure>>,
    /// Even if a space is left without an admin.
    pub(crate) force: bool,
}

/// This process.
pub(super) struct Process {
    pub(super) directory: PathBuf,
    /// Who gives the replica another key, when it is asked for.
    pub(super) renewals: mpsc::Sender<Renewal>,
}

impl Host for Process {
    fn run(&self, job: Job) {
        // Nobody waits for the thread: the job itself reports.
        drop(tokio::task::spawn_blocking(job));
    }

    fn place(&self) -> Option<HostLine> {
        Some(HostLine { pid: std::process::id(), directory: self.directory.display().to_string() })
    }

    fn renew(&self, force: bool) -> BoxFuture<'static, Result<api::Renewed, Failure>> {
        let renewals = self.renewals.clone();
        async move {
            let ending = || Failure::new(Code::Stopped, "the node is about to end");
            let (answer, renewed) = oneshot::channel();
            renewals.try_send(Renewal { answer, force }).map_err(|_| ending())?;
            Ok(renewal_answer(renewed.await.map_err(|_| ending())??))
        }
        .boxed()
    }
}

/// What a renewal is answered with.
pub(crate) fn renewal_answer(renewed: anabranch::Renewed) -> api::Renewed {
    let anabranch::Renewed { former, device, former_identity, spaces, .. } = renewed;
    let space = |(space, name): (anabranch::SpaceId, String)| api::RenewedSpace {
        space: space.to_string(),
        name,
        held_elsewhere: None,
    };
    api::Renewed {
        device: device.to_string(),
        former: former.to_string(),
        former_identity: former_identity.display().to_string(),
        spaces: spaces.into_iter().map(space).collect(),
    }
}
