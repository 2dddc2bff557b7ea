//! The part of WASI 0.2 that a guest gets, and none of it leads outside: clocks that tell the invocation's time, random
//! numbers from its seed, standard output and error to the log. There are no files, sockets, arguments or variables.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random, sync};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiView};

use super::limits::LOG_LINE_BYTES_MAX;

/// What changes with each invocation.
#[derive(Debug, Default)]
pub struct Ambient {
    time_ms: AtomicU64,
    monotonic_ns: AtomicU64,
    random: AtomicU64,
}

impl Ambient {
    /// Begins an invocation at a time, with a seed.
    pub fn begin(&self, time_ms: u64, seed: u64) {
        self.time_ms.store(time_ms, Ordering::Relaxed);
        let time_ns = time_ms.saturating_mul(1_000_000);
        self.monotonic_ns.fetch_max(time_ns, Ordering::Relaxed);
        self.random.store(seed, Ordering::Relaxed);
    }
}

struct Clock(Arc<Ambient>);

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.time_ms.load(Ordering::Relaxed))
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }

    /// Moves on by being read, so that nothing a guest measures depends on the machine.
    fn now(&self) -> u64 {
        self.0.monotonic_ns.fetch_add(1_000, Ordering::Relaxed)
    }
}

/// SplitMix64 from the invocation's seed.
struct Seeded(Arc<Ambient>);

impl Seeded {
    fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut state = self.0.random.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^ (state >> 31)
    }
}

impl rand_core::TryRng for Seeded {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.next() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// Standard output or error, line by line into the log.
#[derive(Clone)]
struct LogStream {
    whose: Arc<str>,
}

struct LogWriter {
    whose: Arc<str>,
    line: Vec<u8>,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(LogWriter { whose: self.whose.clone(), line: Vec::new() })
    }

    fn p2_stream(&self) -> Box<dyn wasmtime_wasi::p2::OutputStream> {
        Box::new(LogWriter { whose: self.whose.clone(), line: Vec::new() })
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
            tracing::info!(target: "pelton::guest", "{}: {}", self.whose, String::from_utf8_lossy(&self.line));
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
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> wasmtime_wasi::p2::StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> wasmtime_wasi::p2::StreamResult<usize> {
        Ok(64 * 1024)
    }
}

/// A guest's context: `hash_seed` is the same for all instances of a task.
pub fn context(ambient: &Arc<Ambient>, whose: Arc<str>, hash_seed: u128) -> WasiCtx {
    let log = LogStream { whose };
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(log.clone())
        .stderr(log)
        .wall_clock(Clock(ambient.clone()))
        .monotonic_clock(Clock(ambient.clone()))
        .secure_random(Seeded(ambient.clone()))
        .insecure_random(Seeded(ambient.clone()))
        .insecure_random_seed(hash_seed);
    builder.build()
}

/// Links what guests get. File system interfaces are there because standard libraries import them; they hold nothing.
pub fn link<T: WasiView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView};
    use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
    use wasmtime_wasi::random::WasiRandom;

    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_sync(linker)?;
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
