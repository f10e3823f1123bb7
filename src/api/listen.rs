//! Accepting connections: axum's own loop, with what it leaves out. A connection that sends nothing useful is closed
//! (request heads must arrive in time), one that takes nothing of its answers is, too, and there are only so many
//! connections at once.

use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::standstill::ForgivingTimer;
use crate::config::ConnectionsConfig;

/// Connections that wait in the kernel to be accepted; Linux takes `net.core.somaxconn` where that is less. What does not
/// fit is dropped without a word: the caller's kernel tries again after seconds, ever more rarely. The one whose last
/// packet of the handshake no longer fitted believes that it is connected, sends its request, and in the end is reset
/// without an answer. The library's own 128 were full after two seconds of standstill under an ordinary load.
const BACKLOG: u32 = 4096;

/// Bytes of a request's head, and those that are read of a body at once. Whoever has no key yet takes that much for each
/// connection; the library's own 408 KiB were four hundred megabytes for a thousand of them.
const BUFFER: usize = 64 << 10;

/// Listens on an address.
///
/// # Errors
/// When the address is taken or is not this machine's.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart need not wait until the last connections of the process before are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`, then finishes what is in flight. Dropped before that is done, it closes the connections.
pub async fn serve(listener: TcpListener, router: Router, limits: ConnectionsConfig, stop: CancellationToken) {
    // HTTP/1 alone: to tell the versions apart, the library would wait for a first byte without a clock.
    let mut builder = http1::Builder::new();
    builder.timer(ForgivingTimer).header_read_timeout(limits.head).max_buf_size(BUFFER);
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(limits.most)));
    let service = TowerToHyperService::new(router);
    // Whoever waits for this no longer closes the connections that are left by that.
    let closing = CancellationToken::new();
    let _closes = closing.clone().drop_guard();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No file descriptors left, say: it passes when connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let _small_answers_go_at_once = stream.set_nodelay(true);
        let stream = TokioIo::new(Taken::new(stream, limits.stall));
        let connection = graceful.watch(builder.serve_connection(stream, service.clone()));
        let closing = closing.clone();
        tokio::spawn(async move {
            let _place = place;
            match closing.run_until_cancelled_owned(connection).await {
                None | Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!(%error, "a connection ended early"),
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// A connection whose other end must go on taking what is written: whoever asks and never reads would keep its place for
/// ever.
struct Taken {
    stream: TcpStream,
    stall: Duration,
    /// While a write waits for room.
    wait: Option<Pin<Box<dyn Sleep>>>,
}

impl Taken {
    fn new(stream: TcpStream, stall: Duration) -> Self {
        Self { stream, stall, wait: None }
    }

    /// What a write came to; an error where nothing was taken for too long. `write` is the same write once more: the kernel
    /// tells of room only when a third of what it holds was taken, and for that a slow reader may need longer.
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        write: impl FnOnce(std::net::TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.wait = None;
            return written;
        }
        let stall = self.stall;
        let wait = self.wait.get_or_insert_with(|| ForgivingTimer.sleep(stall));
        ready!(wait.as_mut().poll(context));
        self.wait = None;
        // The same socket under another number: it does not block there either.
        let socket = self.stream.as_fd().try_clone_to_owned()?;
        match write(socket.into()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Else the kernel would go on offering what it holds.
                let _if_it_is_open_still = self.stream.set_zero_linger();
                let detail = format!("nothing of an answer was taken for {} seconds", stall.as_secs_f64());
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, detail)))
            }
            written => Poll::Ready(written),
        }
    }
}

impl AsyncRead for Taken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Taken {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written, |mut socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.judge(context, written, |mut socket| socket.write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // These two never wait for the other end: the kernel has everything already.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const STALL: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_slow_reader_is_waited_for_and_one_that_stops_is_not() {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let mut reader = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut taken = Taken::new(stream, STALL);
        let writing = tokio::spawn(async move {
            let bytes = vec![b'x'; 1 << 20];
            loop {
                if let Err(error) = taken.write_all(&bytes).await {
                    return error.kind();
                }
            }
        });
        // 640 KiB a second: the kernel holds megabytes and does not say within the stall that there is room again.
        let (began, mut piece) = (Instant::now(), vec![0; 32 << 10]);
        while began.elapsed() < 3 * STALL {
            reader.read_exact(&mut piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!writing.is_finished(), "it was read all the time");
        let ended = tokio::time::timeout(20 * STALL, writing).await.expect("it is given up").unwrap();
        assert_eq!(ended, io::ErrorKind::TimedOut);
    }
}
