//! The link to the cloud: a TCP proxy that can be cut. Neither side is told; bytes under way are gone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_local};

/// The switch of the link. When it is dropped, the link ends.
#[derive(Debug)]
pub(super) struct Link {
    is_up: watch::Sender<bool>,
}

impl Link {
    /// Carries what comes to `port` to `cloud`.
    pub(super) async fn open(port: u16, cloud: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (is_up, state) = watch::channel(true);
        spawn_local(serve(listener, cloud, state));
        Ok(Self { is_up })
    }

    /// Tears every connection down, and each new one at once.
    pub(super) fn cut(&self) {
        self.is_up.send_replace(false);
    }

    /// Lets connections through again.
    pub(super) fn restore(&self) {
        self.is_up.send_replace(true);
    }
}

async fn serve(listener: TcpListener, cloud: SocketAddr, is_up: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    // Without a switch there is no link.
    let mut switch = is_up.clone();
    let gone = async move { while switch.changed().await.is_ok() {} };
    tokio::pin!(gone);
    loop {
        tokio::select! {
            () = &mut gone => return,
            accepted = listener.accept() => {
                if let (Ok((near, _)), true) = (accepted, *is_up.borrow()) {
                    connections.spawn_local(carry(near, cloud, is_up.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(mut near: TcpStream, cloud: SocketAddr, mut is_up: watch::Receiver<bool>) {
    let copy = async {
        let mut far = TcpStream::connect(cloud).await?;
        copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        // However it ended, both ends are closed now, and that is all a link can say.
        _ = copy => {}
        _ = is_up.wait_for(|is_up| !is_up) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::LocalSet;

    #[tokio::test]
    async fn a_cut_tears_what_is_open_and_a_restored_link_carries_again() {
        LocalSet::new()
            .run_until(async {
                let cloud = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let (cloud_at, near_at) = (cloud.local_addr().unwrap(), near.local_addr().unwrap());
                let (is_up, state) = watch::channel(true);
                spawn_local(serve(near, cloud_at, state));
                let link = Link { is_up };

                let mut client = TcpStream::connect(near_at).await.unwrap();
                client.write_all(b"one").await.unwrap();
                let (mut server, _) = cloud.accept().await.unwrap();
                let mut read = [0; 3];
                server.read_exact(&mut read).await.unwrap();
                assert_eq!(&read, b"one");

                link.cut();
                assert_eq!(client.read(&mut read).await.unwrap_or(0), 0);
                assert_eq!(server.read(&mut read).await.unwrap_or(0), 0);
                let mut refused = TcpStream::connect(near_at).await.unwrap();
                assert_eq!(refused.read(&mut read).await.unwrap_or(0), 0);

                link.restore();
                let mut client = TcpStream::connect(near_at).await.unwrap();
                client.write_all(b"two").await.unwrap();
                let (mut server, _) = cloud.accept().await.unwrap();
                server.read_exact(&mut read).await.unwrap();
                assert_eq!(&read, b"two");
            })
            .await;
    }
}
