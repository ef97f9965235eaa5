//! The service: answers requests about one replica, whoever carries them. It knows no sockets, files, processes or exit codes.
//!
//! A carrier (the node's socket, HTTP, a browser's worker) reads a request, gives it to a [`Conversation`], and writes the lines of
//! the [`Answer`]. Nothing is done for an answer that is not polled, and an answer that is dropped is given up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch::{Document, DocumentError, DocumentId, Draft, Peer, SpaceId};
use async_channel::{Receiver, Sender};
use futures::channel::oneshot;
use futures::future::{self, BoxFuture, Either};
use futures::{FutureExt as _, Stream};
use futures_timer::Delay;
use parking_lot::Mutex;

use crate::answer::{Content, Count, HostLine, Line, Renewed};
use crate::service::reserved::Reserved;
use crate::{Code, Command, Failure, Which};

mod conflicts;
mod documents;
mod edits;
mod errors;
mod history;
mod identity;
mod import;
mod names;
mod naming;
mod pattern;
mod peers;
mod reserved;
mod spaces;
mod status;
mod watch;

/// Lines of one answer that are ready and were not taken. Then what makes them waits.
const ITEMS_QUEUED_MAX: usize = 16;
/// A request waits no longer than this, whatever it says.
const TIMEOUT_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Who asks. The carrier says so: it has authenticated them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Caller {
    /// The owner of the replica, who may do everything.
    Owner,
}

impl Caller {
    /// Whether they may ask this. The one place where a request is authorised.
    fn may(self, _request: &Command) -> Result<(), Failure> {
        match self {
            Self::Owner => Ok(()),
        }
    }
}

/// Work that may take long, to be done away from the thread that polls answers.
pub type Job = Box<dyn FnOnce() + Send>;

/// What the service needs of the program around it.
pub trait Host: Send + Sync + 'static {
    /// Does a job, now or later, on any thread. It does not fail: a job that panics is reported by the answer.
    fn run(&self, job: Job);

    /// Where the replica runs, for `status`.
    fn place(&self) -> Option<HostLine> {
        None
    }

    /// Ends the replica and opens it again under another key. [`Renewed::spaces`] need not say who holds what.
    fn renew(&self, _force: bool) -> BoxFuture<'static, Result<Renewed, Failure>> {
        future::ready(Err(Failure::refused("the key cannot be renewed from here"))).boxed()
    }
}

/// A program with one thread, or with one that may be held up.
#[derive(Clone, Copy, Default, Debug)]
pub struct SameThread;

impl Host for SameThread {
    fn run(&self, job: Job) {
        job();
    }
}

/// Answers requests about one replica. Cheap to clone; it keeps the replica open.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    peer: Peer,
    host: Box<dyn Host>,
    reserved: Reserved,
}

/// The requests of one caller, one after the other or at once. The document of the last one stays open for the next.
pub struct Conversation {
    service: Service,
    caller: Caller,
    kept: Kept,
}

/// The document of a conversation's last request.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Document>>>);

/// An answer under way: any number of [`Line::Item`] and then one [`Line::Ok`] or [`Line::Error`]. At most 16 lines wait to
/// be taken. Dropped earlier, what was asked is given up: edits and imports are made as a whole or not at all (a change for
/// each, up to any of them), and a read that has begun in a [`Job`] goes on there for nobody.
pub struct Answer {
    items: Receiver<Content>,
    work: Option<BoxFuture<'static, Result<Content, Failure>>>,
    last: Option<Line<Content>>,
}

/// Where what answers puts its items.
#[derive(Clone)]
struct Items(Sender<Content>);

impl Service {
    /// A service over a replica.
    pub fn new(peer: Peer, host: impl Host) -> Self {
        Self { shared: Arc::new(Shared { peer, host: Box::new(host), reserved: Reserved::default() }) }
    }

    /// Begins to take requests of a caller.
    pub fn converse(&self, caller: Caller) -> Conversation {
        Conversation { service: self.clone(), caller, kept: Kept::default() }
    }

    /// Answers one request by itself. `text` is what an import imports, and else empty.
    pub fn call(&self, caller: Caller, request: Command, text: Vec<u8>) -> Answer {
        self.converse(caller).call(request, text)
    }

    fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// Does what may take long away from the thread that polls. What nobody waits for any more is not begun.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        self.blocking_while_wanted(|_| work()).await
    }

    /// The same for work that asks now and then whether somebody still waits for it.
    async fn blocking_while_wanted<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, done) = oneshot::channel();
        self.shared.host.run(Box::new(move || {
            if !sender.is_canceled() {
                let done = work(&|| !sender.is_canceled());
                // Whoever waited may have gone meanwhile.
                let _ = sender.send(done);
            }
        }));
        done.await.map_err(|_| Failure::new(Code::Internal, "the request failed inside, which is a bug"))
    }

    /// Does `work` in jobs, one after the other until it is done: `None` says that edits come faster than the disk takes them, and
    /// then what was made so far is saved first. Nobody waits inside a job. Whoever gives up, gives up the jobs that have not begun.
    async fn in_turns<S: Send + 'static, T: Send + 'static>(
        &self,
        document: &Document,
        mut state: S,
        work: fn(&mut S) -> Option<T>,
    ) -> Result<(S, T), Failure> {
        loop {
            let (back, done) = self
                .blocking(move || {
                    let done = work(&mut state);
                    (state, done)
                })
                .await?;
            if let Some(done) = done {
                return Ok((back, done));
            }
            // Where nothing can be saved, the next try says why.
            let _ = document.saved().await;
            state = back;
        }
    }

    /// Makes something in a draft, and publishes it if it is to be. It is published as a whole, or given up.
    async fn in_draft<T, E>(
        &self,
        document: &Document,
        publishes: bool,
        make: impl FnOnce(&mut Draft) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DocumentError> + From<Failure> + Send + 'static,
    {
        let own = document.clone();
        let made = self.blocking(move || {
            let mut draft = own.draft()?;
            let what = make(&mut draft)?;
            Ok::<_, E>((draft, what))
        });
        let (draft, what) = made.await??;
        if !publishes {
            return Ok(what);
        }
        // Together with what was made, which may reserve a name: that is not free before it is given.
        let publish = |(draft, _): &mut (Draft, T)| unless_busy(draft.publish());
        let ((_draft, what), published) = self.in_turns(document, (draft, what), publish).await?;
        published?;
        Ok(what)
    }

    /// One answer, from a request that its caller may make.
    async fn answer(&self, kept: &Kept, request: Command, text: Vec<u8>, items: &Items) -> Result<Content, Failure> {
        Ok(match request {
            Command::Id => self.identity().into(),
            Command::IdName { name } => self.name_device(&name).await?.into(),
            Command::IdRenew { timeout_ms, force } => {
                kept.close();
                self.renew(timeout_ms, force).await?.into()
            }
            Command::Status => self.status().into(),
            Command::Peers => items.all(self.peer_lines()).await,
            Command::PeerDial { address, timeout_ms } => self.dial(&address, timeout_ms).await?.into(),
            Command::PeerForget { peer } => self.forget(&peer).await?.into(),
            Command::PeerBlock { peer } => self.block(&peer).await?.into(),
            Command::PeerUnblock { peer } => self.unblock(&peer).await?.into(),
            Command::SpaceCreate { name, force } => self.create_space(&name, force).await?.into(),
            Command::SpaceList => items.all(self.space_lines()).await,
            Command::SpaceInvite { space, role, uses, addresses } => {
                self.invite(space.as_deref(), &role, uses, addresses).await?.into()
            }
            Command::SpaceJoin { ticket, timeout_ms } => self.join(&ticket, timeout_ms).await?.into(),
            Command::SpaceLeave { space, force } => {
                kept.close();
                self.leave(&space, force).await?.into()
            }
            Command::SpaceVoid { space, entry } => self.void_entry(space.as_deref(), &entry).await?.into(),
            Command::SpaceMembers { space, usage } => items.all(self.members(space.as_deref(), usage).await?).await,
            Command::DocNew { space, name, force } => {
                self.new_document(space.as_deref(), name.as_deref(), force).await?.into()
            }
            Command::DocNewNamed { space, names, force } => {
                self.new_documents(space.as_deref(), &names, force, items).await?.into()
            }
            Command::DocRename { which, name, force } => self.rename(kept, &which, &name, force).await?.into(),
            Command::DocList { space, pattern, sort } => {
                items.all(self.document_lines(space.as_deref(), pattern.as_deref(), sort)?).await
            }
            Command::DocGet { which, path, at, typed } => self.get(kept, &which, path, &at, typed).await?.into(),
            Command::DocEdit { which, edits, each, saved, reading, lines } => {
                let order = edits::Order { edits, each, saved, reading, lines };
                self.edit(kept, &which, order, items).await?.into()
            }
            Command::DocImport { space, default_space, document, name, force, bytes: _, reading, replace, check } => {
                let document = document.map(|document| Which { space: space.clone(), default_space, document });
                let order = import::Order { space, document, name, force, reading, replace, check };
                self.import(order, text).await?.into()
            }
            Command::DocRevert { which, to } => self.revert(&which, &to).await?.into(),
            Command::DocExport { which, at, typed } => self.export(kept, &which, &at, typed, items).await?.into(),
            Command::DocLog { which, last, patches, reverse } => {
                let wanted = history::Wanted { last, patches, reverse };
                items.all(self.log(kept, &which, wanted).await?).await
            }
            Command::DocDiff { which, from, to, texts } => self.diff(kept, &which, &from, &to, texts).await?.into(),
            Command::DocConflicts { which, path } => items.all(self.conflicts(kept, &which, path).await?).await,
            Command::DocResolve { which, path, take, reading } => {
                self.resolve(&which, path, take, reading).await?.into()
            }
            Command::Watch { space, default_space, document, since } => {
                let which = document.map(|document| Which { space: space.clone(), default_space, document });
                return Err(match self.watch(space.as_deref(), which.as_ref(), since, items).await {
                    Err(failure) => failure,
                    Ok(()) => self.ended(),
                });
            }
            Command::WaitSynced { space, peer, timeout_ms } => {
                self.wait_synced(space.as_deref(), peer.as_deref(), timeout_ms, items).await?.into()
            }
        })
    }
}

/// Nothing where edits come faster than the disk takes them.
fn unless_busy<T, E>(result: Result<T, E>) -> Option<Result<T, E>>
where
    E: IsBusy,
{
    match result {
        Err(error) if error.is_busy() => None,
        result => Some(result),
    }
}

/// An error that may be of edits that come faster than the disk takes them. Nothing was done then.
trait IsBusy {
    fn is_busy(&self) -> bool;
}

impl IsBusy for DocumentError {
    fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_))
    }
}

impl Conversation {
    /// Answers a request. `text` is what an import imports, and else empty.
    pub fn call(&self, request: Command, text: Vec<u8>) -> Answer {
        let (sender, items) = async_channel::bounded(ITEMS_QUEUED_MAX);
        let (service, caller, kept) = (self.service.clone(), self.caller, self.kept.clone());
        let work = async move {
            caller.may(&request)?;
            service.answer(&kept, request, text, &Items(sender)).await
        };
        Answer { items, work: Some(work.boxed()), last: None }
    }
}

impl Kept {
    /// The document that is kept, if it is this one. Any other is closed.
    fn take(&self, space: SpaceId, id: DocumentId) -> Option<Document> {
        let kept = self.0.lock().take();
        kept.filter(|document| document.id() == id && document.space().id() == space)
    }

    fn keep(&self, document: &Document) {
        *self.0.lock() = Some(document.clone());
    }

    fn close(&self) {
        *self.0.lock() = None;
    }
}

impl Items {
    /// Gives one item, when there is room for it.
    async fn put(&self, item: impl Into<Content>) {
        // Its other end is dropped together with what waits here.
        let _ = self.0.send(item.into()).await;
    }

    /// Gives all of them; returns the end of an answer that is a list.
    async fn all(&self, items: Vec<impl Into<Content>>) -> Content {
        let count = Count { items: items.len() };
        for item in items {
            self.put(item).await;
        }
        count.into()
    }
}

// Only its channel is not, and that is not polled.
impl Unpin for Answer {}

impl Stream for Answer {
    type Item = Line<Content>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Line<Content>>> {
        let this = &mut *self;
        if let Ok(item) = this.items.try_recv() {
            return Poll::Ready(Some(Line::Item(item)));
        }
        if let Some(work) = &mut this.work
            && let Poll::Ready(done) = work.as_mut().poll(cx)
        {
            this.work = None;
            this.last = Some(done.map_or_else(Line::Error, Line::Ok));
        }
        match this.items.try_recv() {
            Ok(item) => Poll::Ready(Some(Line::Item(item))),
            Err(_) if this.work.is_some() => Poll::Pending,
            Err(_) => Poll::Ready(this.last.take()),
        }
    }
}

/// The end of the time that a request has.
struct TimeLimit(Delay);

impl TimeLimit {
    fn of_ms(timeout_ms: u64) -> Self {
        Self(Delay::new(Duration::from_millis(timeout_ms).min(TIMEOUT_MAX)))
    }

    /// What comes of `work`, if it comes in time.
    async fn of<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        match future::select(std::pin::pin!(work), &mut self.0).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(((), _)) => None,
        }
    }
}

/// Lets everything else on this thread run once.
async fn yield_now() {
    let mut has_yielded = false;
    future::poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::StreamExt as _;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn answer_that_is_not_taken_makes_no_more_than_a_few_lines() {
        let made = Arc::new(AtomicUsize::new(0));
        let (sender, items) = async_channel::bounded(ITEMS_QUEUED_MAX);
        let counter = made.clone();
        let work = async move {
            let items = Items(sender);
            for number in 0..100 {
                counter.fetch_add(1, Ordering::Relaxed);
                items.put(number.to_string()).await;
            }
            Ok(Count { items: 100 }.into())
        };
        let mut answer = Answer { items, work: Some(work.boxed()), last: None };
        assert!(matches!(block_on(answer.next()), Some(Line::Item(Content::Text(text))) if text == "0"));
        assert_eq!(made.load(Ordering::Relaxed), ITEMS_QUEUED_MAX + 1, "one of them waits for room");
        let rest = block_on(answer.collect::<Vec<_>>());
        let texts = rest.iter().filter_map(|line| match line {
            Line::Item(Content::Text(text)) => text.parse::<usize>().ok(),
            _ => None,
        });
        assert!(texts.eq(1..100), "each once, in order");
        assert!(matches!(rest.last(), Some(Line::Ok(Content::Count(count))) if count.items == 100));
    }

    // The job waited for the disk itself, inside the caller's own wait, which panicked.
    #[test]
    fn work_that_outruns_the_disk_goes_on_where_it_was_also_on_one_thread() {
        let peer = block_on(Peer::builder().open()).unwrap();
        let space = block_on(peer.create_space("work")).unwrap();
        let document = block_on(space.create_document()).unwrap();
        let service = Service::new(peer.clone(), SameThread);
        let edit_some = |(document, edits): &mut (Document, i64)| {
            *edits += 1;
            document.edit(|edit| edit.set("/n", *edits)).unwrap();
            (*edits == 3).then_some("done")
        };
        let ((_, edits), done) = block_on(service.in_turns(&document, (document.clone(), 0), edit_some)).unwrap();
        assert_eq!((edits, done), (3, "done"));
        block_on(peer.shutdown());
    }
}
