//! The control side: a real `mesh-control serve` on a generated folder, and simulated proxies that follow it.
//!
//! A change is a file that is renamed into place, so what is measured begins with the folder's notice (20 ms of quiet are
//! waited for there) and ends when the last proxy has sent its acknowledgement. Control plane and proxies share the cores.

mod cold;
mod mesh;
mod proxies;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::measure::{cpu, resident};
use crate::peers::Process;
use crate::{isolate, line, progress};
use cold::Cold;
use mesh::Mesh;
use proxies::{Fleet, Form};

const PORTS: [u16; 3] = [15010, 15012, 15014];
/// The slowest start that is waited for.
const START: Duration = Duration::from_secs(300);
/// The slowest change that is waited for.
const CHANGE: Duration = Duration::from_secs(120);
/// More resources than this, over all proxies together, take longer to send at first than anybody waits.
const MOST_PUSHED: usize = 3_000_000;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Control {
    /// 100 and 1,000 services, 10 and 1,000 proxies, five changes each: about a minute.
    #[arg(long)]
    quick: bool,
    /// Numbers of services.
    #[arg(long, value_delimiter = ',')]
    services: Vec<usize>,
    /// Numbers of proxies.
    #[arg(long, value_delimiter = ',')]
    proxies: Vec<usize>,
    /// How many changes are made, one after the other.
    #[arg(long)]
    changes: Option<usize>,
    /// Only what one sidecar costs, without any control plane.
    #[arg(long)]
    cold: bool,
    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    load_average: String,
    meshes: Vec<OfMesh>,
}

#[derive(Debug, Serialize)]
struct OfMesh {
    services: usize,
    cold: Cold,
    /// From start until proxies can connect.
    start_ms: f64,
    /// Resident memory without proxies.
    resident_mb: f64,
    fleets: Vec<OfFleet>,
}

#[derive(Debug, Serialize)]
struct OfFleet {
    form: Form,
    proxies: usize,
    /// Until all have everything, and the CPU of the control plane for it.
    first_s: f64,
    first_cpu_s: f64,
    kb_per_proxy: f64,
    /// From the change to the acknowledgement, over all proxies and changes.
    p50_ms: f64,
    p99_ms: f64,
    /// Until the last acknowledgement; the median over the changes.
    last_ms: f64,
    cpu_ms_per_change: f64,
    bytes_per_proxy: f64,
}

/// Measures, and prints.
pub(crate) fn run(options: &Control) -> Result<()> {
    isolate::enter()?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("more open files")?;
    let or = |given: &[usize], usual: &[usize]| {
        if given.is_empty() {
            usual.to_vec()
        } else {
            given.to_vec()
        }
    };
    let (services, proxies): (&[usize], &[usize]) = if options.quick {
        (&[100, 1000], &[10, 1000])
    } else {
        (&[100, 1000, 10_000], &[10, 100, 1000])
    };
    let (services, proxies) = (or(&options.services, services), or(&options.proxies, proxies));
    let changes = options.changes.unwrap_or(if options.quick { 5 } else { 10 }).max(1);
    let program = program()?;
    let load_average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load_average = load_average.split_whitespace().next().unwrap_or("?").to_owned();
    line(&format!(
        "Control plane and simulated proxies share {} cores; load average {load_average} at the start",
        std::thread::available_parallelism().map_or(1, usize::from)
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut meshes = Vec::new();
    for services in services {
        progress(&format!("{services} services"));
        let folder = tempfile::tempdir().context("a folder for the mesh")?;
        let source = folder.path().join("mesh");
        std::fs::create_dir_all(&source)?;
        let mesh = Mesh::write(&source, services)?;
        let cold = cold::measure(&source, &mesh)?;
        line("");
        line(&format!(
            "{services} services, {} endpoints each. One sidecar, cold: compile {:.1} ms + bytes {:.1} ms = {:.1} ms of CPU \
             ({} resources, {:.0} KB); reading the folder {:.0} ms, indexing {:.1} ms",
            mesh::ENDPOINTS,
            cold.compile_ms,
            cold.pack_ms,
            cold.compile_ms + cold.pack_ms,
            cold.resources,
            cold.bytes as f64 / 1e3,
            cold.load_ms,
            cold.store_ms
        ));
        let mut of_mesh = OfMesh {
            services,
            cold,
            start_ms: 0.0,
            resident_mb: 0.0,
            fleets: Vec::new(),
        };
        if !options.cold {
            for (form, size) in fleets(&proxies) {
                if size * cold.resources > MOST_PUSHED {
                    line(&format!(
                        "  {size} proxies: left out, {} resources to send first",
                        size * cold.resources
                    ));
                    continue;
                }
                let fleet = one(
                    &program,
                    folder.path(),
                    &mesh,
                    form,
                    size,
                    changes,
                    &mut of_mesh,
                    &runtime,
                )?;
                of_mesh.fleets.push(fleet);
            }
        }
        meshes.push(of_mesh);
    }
    if let Some(path) = &options.json {
        let report = Report { load_average, meshes };
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| path.display().to_string())?;
        line(&format!("written: {}", path.display()));
    }
    Ok(())
}

/// The older form once, with the largest fleet.
fn fleets(proxies: &[usize]) -> Vec<(Form, usize)> {
    let mut all: Vec<(Form, usize)> = proxies.iter().map(|n| (Form::Delta, *n)).collect();
    all.extend(proxies.iter().max().map(|n| (Form::StateOfTheWorld, *n)));
    all
}

#[allow(clippy::too_many_arguments, reason = "the parts of one measurement")]
fn one(
    program: &Path,
    folder: &Path,
    mesh: &Mesh,
    form: Form,
    size: usize,
    changes: usize,
    of_mesh: &mut OfMesh,
    runtime: &tokio::runtime::Runtime,
) -> Result<OfFleet> {
    let [grpc, secure, monitoring] = PORTS.map(|p| format!("127.0.0.1:{p}"));
    let source = format!("dir:{}", folder.join("mesh").display());
    let ca = folder.join("ca").display().to_string();
    let logs = crate::cli::scratch(folder, "logs")?;
    let args = [
        "--log",
        "warn",
        "serve",
        "--source",
        &source,
        "--ca-dir",
        &ca,
        "--grpc-addr",
        &grpc,
        "--secure-grpc-addr",
        &secure,
        "--monitoring-addr",
        &monitoring,
    ];
    let mut process = Process::spawn(program, &args.map(str::to_owned), &logs)?;
    let ready = process.wait_for(PORTS[0], START)?;
    let pid = [process.id()];
    std::thread::sleep(Duration::from_millis(300));
    let empty = resident(&pid);
    of_mesh.start_ms = ready.as_secs_f64() * 1e3;
    of_mesh.resident_mb = empty as f64 / 1e6;

    let (began, cpu_before) = (Instant::now(), cpu(&pid));
    let fleet = runtime.block_on(Fleet::start(mesh, PORTS[0], size, form));
    let mut fleet = fleet.with_context(|| process.last_words())?;
    let (first, first_cpu) = (began.elapsed(), cpu(&pid).saturating_sub(cpu_before));
    let full = resident(&pid);

    let (cpu_before, bytes_before) = (cpu(&pid), fleet.bytes());
    let (mut times, mut last) = (Vec::new(), Vec::new());
    for _ in 0..changes {
        let start = Instant::now();
        mesh.change()?;
        let acknowledged = runtime.block_on(fleet.acknowledgements(CHANGE));
        let mut took: Vec<f64> = acknowledged
            .with_context(|| process.last_words())?
            .into_iter()
            .map(|at| at.saturating_duration_since(start).as_secs_f64() * 1e3)
            .collect();
        took.sort_by(f64::total_cmp);
        last.extend(took.last());
        times.extend(took);
        std::thread::sleep(Duration::from_millis(300));
    }
    let used = cpu(&pid).saturating_sub(cpu_before);
    let sent = fleet.bytes() - bytes_before;
    times.sort_by(f64::total_cmp);
    last.sort_by(f64::total_cmp);
    runtime.block_on(fleet.stop());
    let at = |list: &[f64], share: f64| {
        let index = (list.len() as f64 * share).ceil() as usize;
        list.get(index.saturating_sub(1)).copied().unwrap_or_default()
    };
    let out = OfFleet {
        form,
        proxies: size,
        first_s: first.as_secs_f64(),
        first_cpu_s: first_cpu.as_secs_f64(),
        kb_per_proxy: full.saturating_sub(empty) as f64 / 1e3 / size as f64,
        p50_ms: at(&times, 0.5),
        p99_ms: at(&times, 0.99),
        last_ms: at(&last, 0.5),
        cpu_ms_per_change: used.as_secs_f64() * 1e3 / changes as f64,
        bytes_per_proxy: sent as f64 / changes as f64 / size as f64,
    };
    let form = match form {
        Form::Delta => "delta",
        Form::StateOfTheWorld => "state of the world",
    };
    line(&format!(
        "  {size:>5} proxies, {form}: a change reaches them in p50 {:.0}, p99 {:.0}, last {:.0} ms; {:.0} ms of CPU and {:.0} bytes a \
         proxy for it; {:.0} KB resident a proxy; all connected in {:.1} s with {:.1} s of CPU (ready after {:.1} s, {:.0} MB)",
        out.p50_ms,
        out.p99_ms,
        out.last_ms,
        out.cpu_ms_per_change,
        out.bytes_per_proxy,
        out.kb_per_proxy,
        out.first_s,
        out.first_cpu_s,
        of_mesh.start_ms / 1e3,
        of_mesh.resident_mb
    ));
    Ok(out)
}

fn program() -> Result<PathBuf> {
    let folder =
        std::env::var_os("FERROMESH_BIN_DIR").context("FERROMESH_BIN_DIR is not set; use cargo xtask bench")?;
    let program = Path::new(&folder).join("mesh-control");
    anyhow::ensure!(program.is_file(), "no mesh-control in {}", folder.display());
    Ok(program)
}
