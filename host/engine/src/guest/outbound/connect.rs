//! A connection to where a request goes. A name is looked up once, and what was found is judged and then called, so that no
//! second look-up can lead elsewhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

use super::Destination;
use crate::guest::grants::{Addresses, Protocol, address};

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Connects to one of a destination's addresses that are good to call.
pub async fn connect(destination: &Destination) -> Result<Box<dyn Stream>, Error> {
    let known = address(&destination.host);
    let found: Vec<SocketAddr> = match known {
        Some(address) => vec![(address, destination.port).into()],
        None => look_up(destination).await?,
    };
    let good = |found: &&SocketAddr| destination.addresses == Addresses::All || is_public(found.ip());
    let mut failure = if found.is_empty() { Error::DestinationNotFound } else { Error::DestinationIpProhibited };
    for address in found.iter().filter(good) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(Error::Connect)?;
                return encrypted(destination, known, stream).await;
            }
            Err(error) => failure = Error::Connect(error),
        }
    }
    Err(failure)
}

/// Asks the system for the addresses of a name. Its place is taken until the system answers, whoever still waits for that.
async fn look_up(destination: &Destination) -> Result<Vec<SocketAddr>, Error> {
    let unknown = |error: String| Error::DnsError { rcode: Some(error), info_code: None };
    let place = destination.lookups.clone().acquire_owned().await.map_err(|error| unknown(error.to_string()))?;
    let (host, port) = (destination.host.clone(), destination.port);
    let asked = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        drop(place);
        found
    });
    asked.await.map_err(|error| unknown(error.to_string()))?.map_err(|error| unknown(error.to_string()))
}

async fn encrypted(
    destination: &Destination,
    known: Option<IpAddr>,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, Error> {
    if destination.protocol == Protocol::Http {
        return Ok(Box::new(stream));
    }
    let name = match known {
        Some(address) => ServerName::from(address),
        None => ServerName::try_from(destination.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?,
    };
    let stream = connector().await?.connect(name, stream).await.map_err(Error::Tls)?;
    Ok(Box::new(stream))
}

/// Trusts whom this machine trusts, as far as it did when it was first asked.
async fn connector() -> Result<TlsConnector, Error> {
    static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let failed = |error: String| {
        tracing::error!("outbound calls over TLS: {error}");
        Error::ConfigurationError
    };
    let made = CONFIG.get_or_try_init(|| async {
        let read = tokio::task::spawn_blocking(client_config).await;
        read.map_err(|error| failed(error.to_string()))?.map_err(failed)
    });
    Ok(TlsConnector::from(made.await?.clone()))
}

fn client_config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Some of what a machine trusts may not be of use here; what is, is enough.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(format!("this machine has no root certificates: {}", why.join(", ")));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Whether an address is one of the internet, and neither this machine, nor a private network, nor of a special use.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let [first, second, .., high, low] = address.segments();
            let inner = Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
            match first {
                // IPv4 in IPv6, mapped or translated.
                0 if address.to_ipv4_mapped().is_some() => is_public_v4(inner),
                0x64 if address.segments()[1..6] == [0xff9b, 0, 0, 0, 0] => is_public_v4(inner),
                // Tunnels, which lead to any IPv4 address, and documentation.
                0x2001 if second < 0x200 || second == 0xdb8 => false,
                0x2002 | 0x3fff => false,
                0x2000..=0x3fff => true,
                _ => false,
            }
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let special = match first {
        0 | 10 | 127 | 224.. => true,
        100 => (64..128).contains(&second),
        169 => second == 254,
        172 => (16..32).contains(&second),
        192 => second == 168 || (second == 0 && matches!(third, 0 | 2)) || (second == 88 && third == 99),
        198 => matches!(second, 18 | 19) || (second == 51 && third == 100),
        203 => second == 0 && third == 113,
        _ => false,
    };
    !special
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_is_found_for_a_name_is_judged_before_it_is_called() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        for (addresses, host, is_called) in [
            (Addresses::All, "localhost", true),
            (Addresses::All, "127.0.0.1", true),
            (Addresses::Public, "localhost", false),
            (Addresses::Public, "127.0.0.1", false),
        ] {
            let lookups = Arc::new(Semaphore::new(1));
            let (protocol, host) = (Protocol::Http, host.to_owned());
            let destination = Destination { protocol, host, port, addresses, lookups };
            let called = connect(&destination).await;
            let expected =
                if is_called { called.is_ok() } else { matches!(called, Err(Error::DestinationIpProhibited)) };
            assert!(expected, "{} with {addresses:?}: {:?}", destination.host, called.err());
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_where_there_is_room() {
        let (lookups, protocol, addresses) = (Arc::new(Semaphore::new(1)), Protocol::Http, Addresses::All);
        let destination = Destination { protocol, host: "localhost".into(), port: 1, addresses, lookups };
        let taken = destination.lookups.clone().acquire_owned().await.expect("room");
        let hurried = tokio::time::timeout(std::time::Duration::from_millis(50), look_up(&destination)).await;
        assert!(hurried.is_err(), "it does not wait for room");
        drop(taken);
        assert!(!look_up(&destination).await.expect("addresses").is_empty());
        assert_eq!(destination.lookups.available_permits(), 1);
    }

    #[test]
    fn addresses_of_the_internet_are_told_from_others() {
        let public = ["8.8.8.8", "100.63.0.1", "172.32.0.1", "2600::1", "2001:4860:4860::8888", "::ffff:8.8.8.8"];
        let others = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for (addresses, expected) in [(&public[..], true), (&others[..], false)] {
            for text in addresses {
                assert_eq!(is_public(text.parse().expect("an address")), expected, "{text}");
            }
        }
    }
}
