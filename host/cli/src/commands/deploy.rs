//! `pelton deploy`, `deployments`, `promote` and `rollback`: what a job runs, changed by way of a running host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use pelton_api::model::component::ComponentView;
use pelton_api::model::deployment::{
    CanaryRequest, DeploymentList, DeploymentRequest, DeploymentView, GrantsRequest, LimitsView, RolloutView,
    ShadowRequest,
};
use pelton_api::model::task::{PhaseView, TaskList, TaskView};

use crate::client::{HostArgs, HostClient};
use crate::config;
use crate::exit::{Outcome, usage};
use crate::print::{self, Table};

/// A task changes at its next free seal; one whose calls are long takes longer than this.
const SWAPPED_LIMIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A digest in hexadecimal.
const DIGEST_CHARS: usize = 64;

/// Make a deployment of a job and have its tasks run it.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The job.
    pub job: String,
    /// A component's file, or the digest of one that is kept [default: the `component` of the job in the configuration].
    #[arg(value_name = "FILE|sha256:DIGEST")]
    pub component: Option<String>,
    /// Have some tasks try it first: a share of them, such as 10%, or some by number, such as 0,17,42. What fails there sets no
    /// dead letter, and the third failure takes it back.
    #[arg(long, value_name = "SHARE|TASKS")]
    pub canary: Option<String>,
    /// At which failed call of one task a canary is taken back.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "canary", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub failures: u32,
    /// Take a canary back where so many more of its calls fail than in the other tasks, such as 5%; 20 calls at least are counted.
    #[arg(long, value_name = "SHARE", requires = "canary", value_parser = share)]
    pub errors: Option<u32>,
    /// Take a canary back where a record takes so much longer than in the other tasks, such as 50%; 1,000 records at least are counted.
    #[arg(long, value_name = "SHARE", requires = "canary", value_parser = slower)]
    pub slower: Option<u32>,
    /// Have every task compare it with what it runs, on the same records: nothing that it does is kept or sent. `pelton shadow` shows
    /// what comes of it.
    #[arg(long, conflicts_with = "canary")]
    pub shadow: bool,
    /// How much time a shadow may take, of what the task's own calls take; at 100% every call is compared, whatever it takes, while both
    /// succeed and agree.
    #[arg(long, value_name = "SHARE", default_value = "5%", requires = "shadow", value_parser = share)]
    pub share: u32,
    /// Do not wait until the tasks run it.
    #[arg(long)]
    pub no_wait: bool,
    /// Which host.
    #[command(flatten)]
    pub host: HostArgs,
}

/// List the deployments of a job.
#[derive(Debug, Args)]
pub struct DeploymentsArgs {
    /// The job.
    pub job: String,
    /// Which host.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Have every task run what the canary or the shadow is, or end it.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The job.
    pub job: String,
    /// Have the canary's tasks go back, or end the shadow, instead.
    #[arg(long)]
    pub drop: bool,
    /// Which host.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Have every task run an earlier deployment from now on. What later ones did stays done, or is undone with --rewind.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The job.
    pub job: String,
    /// Which deployment [default: what all others run, where there is a canary, or else the one before the current].
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    /// Undo what was committed since that deployment was left: each task goes back to its state and positions from before, and
    /// folds the records since then again [default for --to: the deployment that was left last since the job went back].
    #[arg(long)]
    pub rewind: bool,
    /// Withdraw a rewind: tasks that have not taken back yet what it undid keep it, until it is asked for again with --to.
    #[arg(long, conflicts_with_all = ["to", "rewind"])]
    pub withdraw: bool,
    /// What becomes of outputs of records that are folded again. A job with outputs must be told.
    #[arg(long, requires = "rewind", value_enum)]
    pub outputs: Option<Outputs>,
    /// Which host.
    #[command(flatten)]
    pub host: HostArgs,
}

/// What becomes of outputs of records that are folded again.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Outputs {
    /// Those of the first time stand.
    Withhold,
    /// They are emitted again, under new ids that name the rewind.
    Again,
}

/// What a deployment is made from, beside its component.
struct Basis {
    component: Option<PathBuf>,
    config: BTreeMap<String, String>,
    limits: LimitsView,
    grants: GrantsRequest,
    /// The deployment whose grants are taken, since no host tells the values of its variables.
    grants_of: Option<u64>,
}

/// Deploys.
///
/// # Errors
/// When the host refuses or does not answer, or tasks take too long.
pub async fn deploy(args: DeployArgs, json: bool) -> anyhow::Result<Outcome> {
    let canary = args.canary.as_deref().map(|text| canary(text, &args)).transpose()?;
    let host = HostClient::new(&args.host)?;
    let basis = basis(&args, &host).await?;
    let component = match (&args.component, &basis.component) {
        (Some(text), _) if is_digest(text) => text.clone(),
        (Some(file), _) => push(&host, Path::new(file)).await?,
        (None, Some(file)) => push(&host, file).await?,
        (None, None) => return Err(usage("no component: name one behind the job, or the configuration with -c")),
    };
    let shadow = args.shadow.then_some(ShadowRequest { share_percent: args.share });
    let Basis { config, limits, grants, grants_of, .. } = basis;
    let request = DeploymentRequest { component, config, limits, grants, grants_of, canary, shadow };
    let path = ["v1", "jobs", &args.job, "deployments"];
    let made: DeploymentView = host.post_json(&path, &request).await?;
    if !args.no_wait {
        let rollout = wait(&host, &args.job).await?;
        let canary = rollout.canary.as_ref().map(|canary| canary.deployment);
        if request.canary.is_some() && canary != Some(made.deployment) {
            bail!(
                "canary {} is no more: it has failed, or somebody ended it; the host's log and /v1/events say why",
                made.deployment
            );
        }
    }
    if json {
        print::json(&made)?
    } else {
        print::line(&format!("deployment {}", made.deployment))?
    }
    Ok(Outcome::Done)
}

/// Lists.
///
/// # Errors
/// When the host does not answer.
pub async fn list(args: &DeploymentsArgs, json: bool) -> anyhow::Result<Outcome> {
    let host = HostClient::new(&args.host)?;
    let path = ["v1", "jobs", &args.job, "deployments"];
    let deployments = host.list::<DeploymentList>(&path, usize::MAX).await?;
    if json {
        print::json(&DeploymentList { deployments, next: None })?;
        return Ok(Outcome::Done);
    }
    let rollout: RolloutView = host.get(&["v1", "jobs", &args.job, "rollout"], &[]).await?;
    let mut table = Table::new(&["DEPLOYMENT", "COMPONENT", "RUN BY"]);
    for deployment in deployments {
        let by = run_by(&rollout, deployment.deployment);
        table.row([deployment.deployment.to_string(), deployment.component, by]);
    }
    table.print()?;
    Ok(Outcome::Done)
}

fn run_by(rollout: &RolloutView, deployment: u64) -> String {
    match &rollout.canary {
        _ if rollout.shadow.is_some_and(|shadow| shadow.deployment == deployment) => "compared (shadow)".into(),
        Some(canary) if canary.deployment == deployment => format!("tasks {} (canary)", print::ranges(&canary.tasks)),
        Some(_) if rollout.current == deployment => "all other tasks".into(),
        None if rollout.current == deployment => "all tasks".into(),
        Some(_) | None => "-".into(),
    }
}

/// Promotes a canary or a shadow, or ends it.
///
/// # Errors
/// When there is none, the host does not answer, or tasks take too long.
pub async fn promote(args: &PromoteArgs, json: bool) -> anyhow::Result<Outcome> {
    let host = HostClient::new(&args.host)?;
    let standing: RolloutView = host.get(&["v1", "jobs", &args.job, "rollout"], &[]).await?;
    let canary = standing.canary.map(|canary| ("canary", canary.deployment));
    let tried = canary.or(standing.shadow.map(|shadow| ("shadow", shadow.deployment)));
    let none = "the job has no canary and no shadow; `pelton deploy --canary` or `--shadow` makes one";
    let (what, number) = tried.context(none)?;
    let rollout: RolloutView = match args.drop {
        true => host.delete(&["v1", "jobs", &args.job, what]).await?,
        false => host.post(&["v1", "jobs", &args.job, "deployments", &number.to_string(), "promote"]).await?,
    };
    told(&host, &args.job, &rollout, json).await
}

/// Rolls back.
///
/// # Errors
/// When there is nothing to go back to, what is to be undone is out of reach, the host does not answer, or tasks take too long.
pub async fn roll_back(args: &RollbackArgs, json: bool) -> anyhow::Result<Outcome> {
    let host = HostClient::new(&args.host)?;
    let to = args.to.map(|to| to.to_string());
    let mut path = vec!["v1", "jobs", &args.job];
    path.extend(to.iter().flat_map(|to| ["deployments", to]));
    path.push("rollback");
    let mut query: Vec<(&str, &str)> = args.rewind.then_some(("rewind", "true")).into_iter().collect();
    query.extend(args.outputs.map(|outputs| match outputs {
        Outputs::Withhold => ("outputs", "withhold"),
        Outputs::Again => ("outputs", "again"),
    }));
    let rollout: RolloutView = match args.withdraw {
        true => host.delete(&["v1", "jobs", &args.job, "rewind"]).await?,
        false => host.post_with(&path, &query).await?,
    };
    told(&host, &args.job, &rollout, json).await
}

async fn told(host: &HostClient, job: &str, rollout: &RolloutView, json: bool) -> anyhow::Result<Outcome> {
    wait(host, job).await?;
    if json {
        print::json(rollout)?
    } else {
        print::line(&format!("deployment {}", rollout.current))?
    }
    Ok(Outcome::Done)
}

/// What the configuration says of the job; where there is none, what its current deployment is.
async fn basis(args: &DeployArgs, host: &HostClient) -> anyhow::Result<Basis> {
    // Another host's job is not what a file that happens to be here says.
    let named = args.host.config.config.as_deref();
    let configured = if args.host.url.is_some() && named.is_none() { None } else { config::load_if_any(named)? };
    if let Some(mut config) = configured {
        let file = config.file.display().to_string();
        let known = || usage(format!("{file} has no [jobs.{}]", args.job));
        let job = config.jobs.remove(&args.job).ok_or_else(known)?;
        let (component, limits, grants) = (Some(job.component), job.limits.into(), job.grants.into());
        return Ok(Basis { component, config: job.config, limits, grants, grants_of: None });
    }
    let number = host.get::<RolloutView>(&["v1", "jobs", &args.job, "rollout"], &[]).await?.current;
    let path = ["v1", "jobs", &args.job, "deployments"];
    let deployments = host.list::<DeploymentList>(&path, usize::MAX).await?;
    let current = deployments.into_iter().find(|deployment| deployment.deployment == number);
    let current = current.context("the host does not list what the job runs")?;
    let (grants, grants_of) = (GrantsRequest::default(), Some(number));
    Ok(Basis { component: None, config: current.config, limits: current.limits, grants, grants_of })
}

fn is_digest(text: &str) -> bool {
    let digest = text.strip_prefix("sha256:").unwrap_or(text);
    digest.len() == DIGEST_CHARS && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn push(host: &HostClient, file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let view: ComponentView = host.put(&["v1", "components"], bytes).await?;
    Ok(view.digest)
}

fn share(text: &str) -> Result<u32, String> {
    let percent = text.strip_suffix('%').and_then(|percent| percent.parse().ok());
    percent.filter(|percent| (1..=100).contains(percent)).ok_or_else(|| "a share such as 5%, from 1% to 100%".into())
}

fn slower(text: &str) -> Result<u32, String> {
    let percent = text.strip_suffix('%').and_then(|percent| percent.parse().ok());
    percent.filter(|percent| (1..=10_000).contains(percent)).ok_or_else(|| "a share such as 50%, up to 10000%".into())
}

fn canary(text: &str, args: &DeployArgs) -> anyhow::Result<CanaryRequest> {
    let request = |percent, tasks| CanaryRequest {
        percent,
        tasks,
        failures_max: args.failures,
        errors_percent: args.errors,
        slower_percent: args.slower,
    };
    let wrong = || usage(format!("--canary {text:?}: a share such as 10%, or tasks such as 0,17,42"));
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent)).ok_or_else(wrong)?;
        return Ok(request(Some(percent), None));
    }
    let tasks = text.split(',').map(|task| task.trim().parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
    Ok(request(None, Some(tasks)))
}

/// Waits until every task that runs is at what it is to run, and says how many are stopped. Returns what they are to run.
async fn wait(host: &HostClient, job: &str) -> anyhow::Result<RolloutView> {
    let began = Instant::now();
    let mut told = Instant::now();
    loop {
        let rollout: RolloutView = host.get(&["v1", "jobs", job, "rollout"], &[]).await?;
        let tasks = host.list::<TaskList>(&["v1", "jobs", job, "tasks"], usize::MAX).await?;
        let is_there = |task: u16, deployment: u64| match &rollout.canary {
            Some(canary) if canary.tasks.contains(&task) => deployment == canary.deployment,
            Some(_) | None => deployment == rollout.current,
        };
        let runs = |phase: PhaseView| phase == PhaseView::Running;
        let is_late = |task: &TaskView| {
            task.phase == PhaseView::Rewinding || runs(task.phase) && !is_there(task.task, task.deployment)
        };
        let late = tasks.iter().filter(|task| is_late(task)).count();
        if late == 0 {
            let stopped = tasks.iter().filter(|task| task.phase == PhaseView::Stopped).count();
            if stopped > 0 {
                eprintln!("{stopped} of {} tasks are stopped; `pelton status` says why", tasks.len());
            }
            return Ok(rollout);
        }
        if began.elapsed() > SWAPPED_LIMIT {
            bail!("{late} tasks have not changed yet; they will at their next chance, `pelton status` shows them");
        }
        if told.elapsed() > Duration::from_secs(1) {
            eprintln!("{late} of {} tasks have not changed yet", tasks.len());
            told = Instant::now();
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
