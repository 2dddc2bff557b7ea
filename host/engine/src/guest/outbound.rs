//! Outbound calls of an instance: `wasi:http`, to whom its deployment is granted. Each is bounded by the call of the logic that
//! made it, no redirect is followed, and nobody is called while an instance begins, which may be only a try.

mod connect;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, timeout_at};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, Host as _, HostOutgoingRequest as _, IoError, Method, OutgoingRequest,
};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use super::grants::{Addresses, Denial, Granted, Protocol};
use super::instance::HostState;
use super::limits::{HTTP_BODY_BYTES_MAX, HTTP_CHUNK_BYTES, HTTP_FIELDS_BYTES_MAX, HTTP_HEAD_BYTES_MAX};
use super::log::GuestLog;

/// The interface by which a component calls others. Its types alone call nobody.
pub const HANDLER: &str = "wasi:http/outgoing-handler";

type Sent = Result<(Response<WasiBody>, Connection), Error>;
/// Drives a connection until its answer is read.
type Connection = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// What an instance may call at the moment.
pub struct Outbound {
    granted: Arc<Granted>,
    log: Arc<GuestLog>,
    /// Whether the logic is called with records or timers, and not only beginning.
    is_open: bool,
    /// When the call of the logic is to be over, and with it whatever it waits for.
    pub(super) until: Instant,
    /// Room for calls under way.
    places: Arc<Semaphore>,
}

/// Where a request goes.
struct Destination {
    protocol: Protocol,
    host: String,
    port: u16,
    addresses: Addresses,
    /// Room for looking its name up.
    lookups: Arc<Semaphore>,
}

impl Outbound {
    /// Of an instance that has yet to begin.
    pub fn new(granted: Arc<Granted>, log: Arc<GuestLog>, places: Arc<Semaphore>) -> Self {
        Self { granted, log, is_open: false, until: Instant::now(), places }
    }

    /// A call of the logic begins, and may last so long.
    pub fn begin(&mut self, timeout_ms: u64, is_open: bool) {
        self.until = Instant::now() + Duration::from_millis(timeout_ms);
        self.is_open = is_open;
    }

    /// Where a request goes, if it may.
    fn destination(&self, uri: &Uri) -> Result<Destination, Error> {
        let protocol = if uri.scheme() == Some(&Scheme::HTTP) { Protocol::Http } else { Protocol::Https };
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(protocol.port()));
        let why = match self.granted.allows(protocol, host, port) {
            _ if has_user(authority) => "names a user",
            _ if !self.is_open => "is made while an instance begins, which calls nobody",
            Err(Denial::Shadow) => "is made in a shadow, which calls nobody",
            Err(Denial::NotGranted) => "is not granted: add the host to `http` in [jobs.NAME.grants]",
            Ok(addresses) => {
                let (host, lookups) = (host.to_owned(), self.granted.lookups.clone());
                return Ok(Destination { protocol, host, port, addresses, lookups });
            }
        };
        let scheme = uri.scheme_str().unwrap_or_default();
        self.refused(&format!("a call to {scheme}://{host}:{port} {why}"));
        Err(Error::HttpRequestDenied)
    }

    /// What an error is called with which the body of an answer ends.
    fn code_of(&mut self, error: &Error) -> Option<ErrorCode> {
        match error {
            Error::Hyper(error) => Some(self.p2_error_from_hyper(error)),
            Error::HttpResponseBodySize(bytes) => Some(ErrorCode::HttpResponseBodySize(*bytes)),
            Error::ConnectionReadTimeout => Some(ErrorCode::ConnectionReadTimeout),
            _ => None,
        }
    }

    fn refused(&self, what: &str) {
        if let Some(what) = self.granted.told_as(what) {
            self.log.refused(&what);
        }
    }
}

fn has_user(authority: &Authority) -> bool {
    authority.as_str().contains('@')
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.resources, ctx: &mut self.http }
    }
}

/// Links `wasi:http` for those who call. Two of its functions would keep texts of any length, and are given bounds; a third knows
/// no error of a body that is read as a stream.
pub fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut caller: StoreContextMut<'_, HostState>, (request, method): (Resource<OutgoingRequest>, Method)| {
            let fits = !matches!(&method, Method::Other(name) if name.len() > HTTP_FIELDS_BYTES_MAX);
            Ok((if fits { caller.data_mut().http().set_method(request, method)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut caller: StoreContextMut<'_, HostState>, (request, name): (Resource<OutgoingRequest>, Option<String>)| {
            let fits = name.as_ref().is_none_or(|name| name.len() <= HTTP_FIELDS_BYTES_MAX);
            Ok((if fits { caller.data_mut().http().set_authority(request, name)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "http-error-code",
        |mut caller: StoreContextMut<'_, HostState>, (error,): (Resource<IoError>,)| {
            let HostState { resources, outbound, .. } = caller.data_mut();
            let of_body = resources.get(&error)?.downcast_ref().and_then(|error| outbound.code_of(error));
            Ok((of_body.map_or_else(|| caller.data_mut().http().http_error_code(error), |code| Ok(Some(code)))?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What `wasi:http` is told of its own bounds.
pub fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(HTTP_FIELDS_BYTES_MAX);
    context
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let until = self.until;
        let place = self.places.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached);
        let admitted = self.destination(request.uri()).and_then(|destination| Ok((destination, place?)));
        Box::new(async move {
            let (destination, place) = admitted?;
            let asked = ask(request, destination, options.unwrap_or_default(), until, place);
            timeout_at(until, asked).await.unwrap_or(Err(Error::HttpResponseTimeout))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        HTTP_CHUNK_BYTES
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        match () {
            () if error.is_timeout() => ErrorCode::HttpResponseTimeout,
            () if is_body_too_large(error) => ErrorCode::HttpRequestBodySize(Some(HTTP_BODY_BYTES_MAX)),
            () if error.is_parse_too_large() => ErrorCode::HttpResponseHeaderSectionSize(None),
            () if error.is_incomplete_message() => ErrorCode::HttpResponseIncomplete,
            () => ErrorCode::HttpProtocolError,
        }
    }

    fn p2_error_from_connect(&mut self, error: &std::io::Error) -> ErrorCode {
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
            std::io::ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
            _ => ErrorCode::DestinationUnavailable,
        }
    }

    fn p2_error_from_tls(&mut self, error: &std::io::Error) -> ErrorCode {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        match tls {
            Some(rustls::Error::InvalidCertificate(_)) => ErrorCode::TlsCertificateError,
            Some(_) | None => ErrorCode::TlsProtocolError,
        }
    }
}

/// Sends a request over a connection of its own, and gives the answer once its head is there.
async fn ask(
    mut request: Request<WasiBody>,
    destination: Destination,
    options: RequestOptions,
    until: Instant,
    place: OwnedSemaphorePermit,
) -> Sent {
    let within = |limit: Option<Duration>| limit.map_or(until, |limit| until.min(Instant::now() + limit));
    let connected = timeout_at(within(options.connect_timeout), connect::connect(&destination)).await;
    let stream = connected.map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HTTP_HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
    // Ended with its last holder, and with the call of the logic at the latest: a request that is still being sent then is cut off.
    let driven = wasmtime_wasi::runtime::spawn(timeout_at(until, connection));
    // A server is asked for the path alone; where it is, the `Host` field says.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let request = request.map(|body| Asked { body, left: HTTP_BODY_BYTES_MAX });
    let asked = timeout_at(within(options.first_byte_timeout), sender.send_request(request)).await;
    let response = asked.map_err(|_| Error::HttpResponseTimeout)??;
    let pause = options.between_bytes_timeout;
    let answer = response.map(|incoming| {
        let sleep = Box::pin(tokio::time::sleep_until(within(pause)));
        Answer { incoming, left: HTTP_BODY_BYTES_MAX, until, pause, sleep, _place: place }.boxed_unsync()
    });
    // How a connection ends that has served is nobody's concern.
    let connection = async move {
        let _ = driven.await;
        Ok(())
    };
    Ok((answer, Box::new(connection)))
}

/// Whether a request failed for what its own body said of its size.
fn is_body_too_large(error: &hyper::Error) -> bool {
    let of_body = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    matches!(of_body, Some(Error::HttpRequestBodySize(_)))
}

/// The body of a request, within its bound.
struct Asked {
    body: WasiBody,
    left: u64,
}

impl Body for Asked {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(left) = self.left.checked_sub(bytes) else {
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(HTTP_BODY_BYTES_MAX)))));
            };
            self.left = left;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, within its bounds.
struct Answer {
    incoming: Incoming,
    left: u64,
    until: Instant,
    /// Longest pause between two of its parts that the guest asked for.
    pause: Option<Duration>,
    sleep: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if Instant::now() >= self.until {
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        let Poll::Ready(frame) = polled else {
            return self.sleep.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)));
        };
        let Some(frame) = frame.transpose()? else { return Poll::Ready(None) };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(HTTP_BODY_BYTES_MAX)))));
        };
        self.left = left;
        if let Some(pause) = self.pause {
            let next = self.until.min(Instant::now() + pause);
            self.sleep.as_mut().reset(next);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
