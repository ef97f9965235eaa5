//! A socket that gives up on a dead peer. TCP itself sends again for a quarter of an hour, and libp2p waits for it when it
//! closes a connection; so a vanished peer with full buffers would hold its place among our connections for all that time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite, FutureExt as _};
use futures_timer::Delay;

/// A socket whose writes fail when it takes no byte for too long.
pub(crate) struct Watched<S> {
    socket: S,
    stall_time_max: Duration,
    /// Runs while the socket owes us progress.
    stalled: Option<Delay>,
}

impl<S> Watched<S> {
    pub(crate) fn new(socket: S, stall_time_max: Duration) -> Self {
        Self { socket, stall_time_max, stalled: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stalled = None;
            return progress;
        }
        let time_max = self.stall_time_max;
        self.stalled
            .get_or_insert_with(|| Delay::new(time_max))
            .poll_unpin(cx)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the socket took no byte for too long")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watch(cx, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not watched: a socket has nothing to flush, so this would pass for progress where a write waits.
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.socket).poll_close(cx);
        self.watch(cx, progress)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncWriteExt as _;
    use futures::executor::block_on;

    use super::*;

    /// Takes the first byte only.
    struct Full(bool);

    impl AsyncWrite for Full {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            if std::mem::replace(&mut self.0, true) { Poll::Pending } else { Poll::Ready(Ok(1)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_socket_that_takes_nothing_fails() {
        let mut socket = Watched::new(Full(false), Duration::from_millis(20));
        assert_eq!(block_on(socket.write(&[1, 2])).unwrap(), 1);
        assert_eq!(block_on(socket.write(&[2])).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_socket_that_does_not_close_fails() {
        let mut socket = Watched::new(Full(false), Duration::from_millis(20));
        assert_eq!(block_on(socket.close()).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
