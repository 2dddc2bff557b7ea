//! The part of WASI 0.2 that a guest gets, and none of it leads outside: the clocks and random numbers of its invocation,
//! standard output and error to the log, the variables it is granted. There are no files, sockets or arguments.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sync};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiView};

use super::clock::{Ambient, Clock, Seeded};
use super::grants::Grants;
use super::instance::HostState;
use super::limits::{LOG_LINE_BYTES_MAX, RANDOM_BYTES_MAX, STDIO_WRITE_BYTES_MAX};
use super::log::{GuestLog, LineLevel, LineSource};

/// Standard output or error, line by line into the log.
#[derive(Clone)]
struct LogStream {
    ambient: Arc<Ambient>,
    log: Arc<GuestLog>,
    source: LineSource,
}

struct LogWriter {
    stream: LogStream,
    line: Vec<u8>,
}

impl LogStream {
    fn writer(&self) -> LogWriter {
        LogWriter { stream: self.clone(), line: Vec::new() }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.writer())
    }

    fn p2_stream(&self) -> Box<dyn wasmtime_wasi::p2::OutputStream> {
        Box::new(self.writer())
    }
}

impl LogWriter {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.flush_line(),
                byte if self.line.len() < LOG_LINE_BYTES_MAX => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn flush_line(&mut self) {
        if !self.line.is_empty() {
            let LogStream { ambient, log, source } = &self.stream;
            if ambient.is_invoked() {
                log.line(LineLevel::Info, *source, &String::from_utf8_lossy(&self.line));
            }
            self.line.clear();
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.flush_line();
    }
}

impl AsyncWrite for LogWriter {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl wasmtime_wasi::p2::Pollable for LogWriter {
    async fn ready(&mut self) {}
}

impl wasmtime_wasi::p2::OutputStream for LogWriter {
    fn write(&mut self, bytes: bytes::Bytes) -> wasmtime_wasi::p2::StreamResult<()> {
        if bytes.len() > STDIO_WRITE_BYTES_MAX {
            return Err(wasmtime_wasi::p2::StreamError::trap("a write is longer than check-write allowed"));
        }
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> wasmtime_wasi::p2::StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> wasmtime_wasi::p2::StreamResult<usize> {
        Ok(STDIO_WRITE_BYTES_MAX)
    }
}

/// A guest's context: `hash_seed` is the same for all instances of a task.
pub fn context(ambient: &Arc<Ambient>, log: &Arc<GuestLog>, hash_seed: u128, grants: &Grants) -> WasiCtx {
    let stream = |source| LogStream { ambient: ambient.clone(), log: log.clone(), source };
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(stream(LineSource::Stdout))
        .stderr(stream(LineSource::Stderr))
        .wall_clock(Clock(ambient.clone()))
        .monotonic_clock(Clock(ambient.clone()))
        .secure_random(Seeded(ambient.clone()))
        .insecure_random(Seeded(ambient.clone()))
        .insecure_random_seed(hash_seed)
        .max_random_size(RANDOM_BYTES_MAX);
    for (name, value) in &grants.env {
        builder.env(name, value);
    }
    builder.build()
}

/// Links what guests get. File system interfaces are there because standard libraries import them; they hold nothing.
pub fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView};
    use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
    use wasmtime_wasi::random::WasiRandom;
    type T = HostState;

    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_sync(linker)?;
    // Waiting by the machine's clock would hold a guest thread for as long as the guest likes.
    linker.allow_shadowing(true);
    clocks::monotonic_clock::add_to_linker::<T, HasSelf<T>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    random::insecure::add_to_linker::<T, WasiRandom>(linker, |t| t.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(linker, |t| t.ctx().ctx.random())?;
    cli::environment::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::exit::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    filesystem::preopens::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    sync::filesystem::types::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    Ok(())
}
