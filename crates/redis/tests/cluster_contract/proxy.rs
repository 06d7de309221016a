//! A TCP proxy between a client and a node. It simulates a network that drops the state of its connections.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A proxy that forwards its port to another port.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// The number of calls of [`forget_connections`](Self::forget_connections).
    epoch: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts a proxy to a port of this machine.
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let epoch = Arc::new(AtomicUsize::new(0));
        let current = Arc::clone(&epoch);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    let current = Arc::clone(&current);
                    thread::spawn(move || forward(from, to, &current));
                }
            }
        });
        Self { port, epoch }
    }

    /// Stops forwarding on all current connections. They stay open, and all data that is sent on them is discarded.
    pub(crate) fn forget_connections(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

/// Forwards data, or discards it if its connection is older than the last call of `forget_connections`.
fn forward(mut from: TcpStream, mut to: TcpStream, current: &AtomicUsize) {
    let made_in = current.load(Ordering::SeqCst);
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if current.load(Ordering::SeqCst) == made_in && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}
