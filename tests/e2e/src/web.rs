//! A web server on this machine whose answers are good or bad, as their paths say.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Longer than any test lasts.
const FOR_EVER: Duration = Duration::from_secs(600);
const A_WHILE: Duration = Duration::from_millis(300);

/// A server, and what it was asked for.
#[derive(Clone, Debug)]
pub struct Web {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

impl Web {
    /// Serves plain HTTP.
    ///
    /// # Errors
    /// When no port is to be had.
    pub fn start() -> Result<Self> {
        Self::serve(|stream| Ok(Box::new(stream)))
    }

    /// Serves HTTP over TLS, with a certificate of `localhost` and 127.0.0.1 that is signed with its own new key. It comes as PEM too,
    /// for whoever is to trust it.
    ///
    /// # Errors
    /// When no port is to be had.
    pub fn start_tls() -> Result<(Self, String)> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], signing_key.into())?;
        let config = Arc::new(config);
        let web = Self::serve(move |stream| {
            let connection = ServerConnection::new(config.clone())?;
            Ok(Box::new(StreamOwned::new(connection, stream)))
        })?;
        Ok((web, cert.pem()))
    }

    fn serve(wrap: impl Fn(TcpStream) -> Result<Box<dyn Connection>> + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let web = Self { port: listener.local_addr()?.port(), asked: Arc::default() };
        let served = web.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(stream) = wrap(stream) else { continue };
                let served = served.clone();
                // Whoever asked may be gone, which is what some tests are about.
                std::thread::spawn(move || drop(served.answer(stream)));
            }
        });
        Ok(web)
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied().unwrap_or_default()
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn answer(&self, stream: Box<dyn Connection>) -> Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while reader.read_line(&mut line)? > 2 {}
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(path.clone()).or_default() += 1;
        let stream = reader.get_mut();
        let mut say = |text: &str| stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
        match path.as_str() {
            "/hello" => say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")?,
            "/later" => {
                std::thread::sleep(A_WHILE);
                say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlater")?;
            }
            "/redirect" => say("HTTP/1.1 302 Found\r\nlocation: /hello\r\ncontent-length: 0\r\n\r\n")?,
            "/silent" => std::thread::sleep(FOR_EVER),
            "/trickle" => {
                say("HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    say("a")?;
                    std::thread::sleep(A_WHILE / 3);
                }
            }
            "/huge" => {
                say("HTTP/1.1 200 OK\r\n\r\n")?;
                let part = "a".repeat(64 * 1024);
                loop {
                    say(&part)?;
                }
            }
            "/swallow" => drop(std::io::copy(&mut reader, &mut std::io::sink())?),
            "/head" => {
                say("HTTP/1.1 200 OK\r\n")?;
                loop {
                    say(&format!("a: {}\r\n", "b".repeat(1_000)))?;
                }
            }
            _ => say("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?,
        }
        Ok(())
    }
}
