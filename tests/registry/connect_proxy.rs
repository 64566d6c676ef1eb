//! A CONNECT proxy that records requests.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// A proxy that connects to one address for every name.
pub(crate) struct Proxy {
    pub(crate) address: String,
    heads: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Proxy {
    /// A proxy on a free port of loopback, which connects to `target`.
    pub(crate) async fn start(target: &str) -> Self {
        Self::at("127.0.0.1:0", target).await
    }

    /// A proxy at `address`, which connects to `target`.
    pub(crate) async fn at(address: &str, target: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (recorded, target) = (Arc::clone(&heads), target.to_owned());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(tunnel(client, target.clone(), Arc::clone(&recorded)));
            }
        });
        Self { address, heads }
    }

    /// The CONNECT requests, with the headers that are compared.
    pub(crate) fn requests(&self) -> Vec<Vec<String>> {
        self.heads.lock().unwrap().clone()
    }
}

async fn tunnel(client: TcpStream, target: String, recorded: Arc<Mutex<Vec<Vec<String>>>>) {
    let mut client = BufReader::new(client);
    let (mut head, mut raw) = (Vec::new(), String::new());
    loop {
        let mut line = String::new();
        client.read_line(&mut line).await.unwrap();
        raw.push_str(&line);
        match line.trim() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let is_tunnel = head[0].starts_with("CONNECT ");
    head.retain(|line| line.ends_with(" HTTP/1.1") || line.to_lowercase().starts_with("proxy-authorization"));
    recorded.lock().unwrap().push(head);
    let Ok(mut server) = TcpStream::connect(&target).await else {
        let _ = client.get_mut().write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        return;
    };
    if is_tunnel {
        client.get_mut().write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    } else {
        server.write_all(raw.as_bytes()).await.unwrap();
    }
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
