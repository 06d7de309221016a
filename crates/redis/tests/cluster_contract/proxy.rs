//! A network between a client and a node that can forget connections.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A port that leads to another one.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// How many times the connections of that time were forgotten.
    epoch: Arc<AtomicUsize>,
}

impl Proxy {
    /// A proxy to a port of this machine.
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

    /// Forgets all connections: they stay open, and what is sent on them goes nowhere.
    pub(crate) fn forget_connections(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

/// Passes on what comes, or swallows it once the connection was forgotten.
fn forward(mut from: TcpStream, mut to: TcpStream, current: &AtomicUsize) {
    let made_in = current.load(Ordering::SeqCst);
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if current.load(Ordering::SeqCst) == made_in && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}
