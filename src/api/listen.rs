//! Accepting connections: axum's own loop, with what it leaves out. A connection that sends nothing useful is closed
//! (request heads must arrive in time), and there are only so many connections at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::standstill::ForgivingTimer;
use crate::config::ConnectionsConfig;

/// Connections that wait in the kernel to be accepted; Linux takes `net.core.somaxconn` where that is less. What does not
/// fit is dropped without a word: the caller's kernel tries again after seconds, ever more rarely. The one whose last
/// packet of the handshake no longer fitted believes that it is connected, sends its request, and in the end is reset
/// without an answer. The library's own 128 were full after two seconds of standstill under an ordinary load.
const BACKLOG: u32 = 4096;

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
    builder.timer(ForgivingTimer).header_read_timeout(limits.head);
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
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service.clone()));
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
