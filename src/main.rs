//! The `robotosecret` binary: arguments to subcommand. The only place with `anyhow`.

#![allow(clippy::doc_markdown, rustdoc::bare_urls)] // `--help` prints them, where backticks and brackets are noise.

mod cli;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use kube::CustomResourceExt;
use robotosecret::{
    api, apiserver,
    controller::{
        self, Insight, Settings,
        lease::LeaseName,
        tenant::{Terms, audiences_of},
    },
    proxy,
    sensitive::Sensitive,
    telemetry::{
        Metrics, Readiness, Traces, health,
        logs::{self, LogFormat},
        traces,
    },
};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

/// Mirrors secrets from where they live into Kubernetes Secrets, and reads them for people and scripts.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Shows how RobotoSecrets stand, says what is wrong and what helps, and has them read again.
#[derive(Parser)]
#[command(version, bin_name = "kubectl robotosecret")]
struct PluginArguments {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Subcommand)]
enum PluginCommand {
    #[command(flatten)]
    Resources(Box<cli::kubectl::Command>),
    /// Print the script that makes a shell complete kubectl-robotosecret.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// The name under which kubectl finds this binary.
const PLUGIN: &str = "kubectl-robotosecret";

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Values(cli::Command),
    #[command(flatten)]
    Resources(cli::kubectl::Command),
    /// Print the script that makes a shell complete these commands.
    ///
    /// For bash: robotosecret completion bash > ~/.local/share/bash-completion/completions/robotosecret
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Run the controller: watch RobotoSecrets and mirror what they refer to.
    Controller(Box<ControllerArguments>),
    /// Print a page of a running controller, and fail unless it answers 200.
    ///
    /// The image has no other program to ask with.
    Probe {
        /// The page's address, such as http://HOST:8080/readyz.
        url: http::Uri,
    },
    /// Print the custom resource definitions as YAML.
    Crds {
        /// Write one file a definition into this folder instead.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// How long a page may take.
const PROBE_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

#[derive(Args)]
#[allow(clippy::struct_excessive_bools)] // Each is a flag of its own.
struct ControllerArguments {
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "ROBOTOSECRET_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The namespaces to serve, separated by commas; all when left out.
    #[arg(long, env = "ROBOTOSECRET_NAMESPACES", value_delimiter = ',', value_parser = namespace)]
    namespaces: Vec<String>,
    /// What is logged: a level, or targets with levels (info,robotosecret=debug).
    #[arg(long, env = "ROBOTOSECRET_LOG_LEVEL", default_value = "info", value_parser = logs::checked)]
    log_level: String,
    /// How log lines look.
    #[arg(long, env = "ROBOTOSECRET_LOG_FORMAT", value_enum, default_value = "json")]
    log_format: LogFormat,
    /// How often the time of the last check is written to a status in which nothing else changed, at most (10s, 5m, 1h).
    #[arg(long, env = "ROBOTOSECRET_STATUS_INTERVAL", default_value = "5m", value_parser = duration)]
    status_interval: std::time::Duration,
    /// How many resources are worked on at the same time.
    #[arg(long, env = "ROBOTOSECRET_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Restart the workloads that spec.rollout names when mirrored data changed; needs the right to patch them.
    #[arg(long, env = "ROBOTOSECRET_ALLOW_ROLLOUT")]
    allow_rollout: bool,
    /// Never read a Secret, not even its metadata: create, patch and delete are the only rights on them that are needed. Secrets that
    /// somebody changed or deleted are then found by a look once a TTL (1m at least, 5m at most).
    #[arg(long, env = "ROBOTOSECRET_CONFINED")]
    confined: bool,
    /// Serve ClusterRobotoSecrets: make, change and remove RobotoSecrets in the namespaces that they select; needs the right to.
    #[arg(long, env = "ROBOTOSECRET_CLUSTER_ROBOTOSECRETS")]
    cluster_robotosecrets: bool,
    /// The namespaces in which RobotoPushes are served, separated by commas, and whose Secrets may be read to be pushed into a store; none when left
    /// out. Needs the right to get Secrets there.
    #[arg(long, env = "ROBOTOSECRET_PUSH_NAMESPACES", value_delimiter = ',', value_parser = namespace)]
    push_namespaces: Vec<String>,
    /// Let RobotoProviders use the controller's own identity (identity.ambient): whoever may write one in a namespace then reads with it.
    #[arg(long, env = "ROBOTOSECRET_ALLOW_AMBIENT_PROVIDERS")]
    allow_ambient_providers: bool,
    /// Whom tokens of ServiceAccounts may be minted for, separated by commas; never the API server itself.
    #[arg(long, env = "ROBOTOSECRET_TOKEN_AUDIENCES", value_delimiter = ',', default_value = api::aws::DEFAULT_AUDIENCE)]
    token_audiences: Vec<String>,
    /// Addresses besides AWS's own that RobotoProviders may name and tokens may be sent to, separated by commas: https://HOST or
    /// https://HOST:PORT as the provider writes it, and http only on the loopback interface.
    #[arg(long, env = "ROBOTOSECRET_ALLOWED_ENDPOINTS", value_delimiter = ',', value_parser = endpoint)]
    allowed_endpoints: Vec<String>,
    /// The namespace that the controller runs in: ClusterRobotoProviders read their access keys there.
    #[arg(long, env = "POD_NAMESPACE", value_parser = namespace)]
    pod_namespace: Option<String>,
    /// The Lease that says which of several controllers works: NAMESPACE/NAME. Left out: this one does.
    #[arg(long, env = "ROBOTOSECRET_LEASE")]
    lease: Option<LeaseName>,
    /// Serve a metric with the name of each resource: when it was last checked with success.
    #[arg(long, env = "ROBOTOSECRET_RESOURCE_METRICS")]
    resource_metrics: bool,
    /// Send traces to this OpenTelemetry collector, as OTLP over HTTP: the address before /v1/traces, such as http://collector.monitoring:4318;
    /// none are made when left out.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// The pod's name, which events name as their source and the lease as its holder.
    #[arg(long, env = "POD_NAME", hide = true)]
    pod_name: Option<String>,
}

fn duration(text: &str) -> Result<std::time::Duration, &'static str> {
    api::duration::parse(text).ok_or("a duration such as 10s, 5m or 1h")
}

/// An empty name would be taken for no namespace at all, or all of them.
fn namespace(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    let legal = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') && (1..=63).contains(&name.len());
    if legal { Ok(name.to_owned()) } else { Err("names of namespaces, separated by commas; where there are none to name, leave the flag out") }
}

/// What may be sent there has to stay between the two.
fn endpoint(text: &str) -> Result<String, &'static str> {
    let text = text.trim().trim_end_matches('/');
    // `{region}` stands for a part of the name.
    let uri: http::Uri = text.replace(api::aws::REGION_PLACE, "region").parse().map_err(|_| "an address such as https://host:port")?;
    let is_plain = uri.path() == "/" && uri.query().is_none() && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    match uri.scheme_str() {
        Some("https") if is_plain => Ok(text.to_owned()),
        Some("http") if is_plain && proxy::is_here(&uri) => Ok(text.to_owned()),
        _ => Err("an address such as https://host:port, without path; http only on the loopback interface"),
    }
}

/// What the command line lets providers do. Refuses audiences that would make tokens good for the API server.
async fn terms(config: &kube::Config, arguments: &ControllerArguments) -> anyhow::Result<Terms> {
    let token = match (&config.auth_info.token, &config.auth_info.token_file) {
        (Some(token), _) => Some(Sensitive::from(token.expose_secret().to_owned())),
        (None, Some(file)) => Some(Sensitive::new(tokio::fs::read(file).await.context("reading the ServiceAccount's token")?)),
        (None, None) => None,
    };
    let own = token.as_ref().map(audiences_of).unwrap_or_default();
    let audiences: BTreeSet<String> = arguments.token_audiences.iter().map(|audience| audience.trim().to_owned()).collect();
    let is_api_server = |audience: &&String| own.contains(*audience) || audience.contains("kubernetes.default") || audience.is_empty();
    if let Some(audience) = audiences.iter().find(is_api_server) {
        anyhow::bail!("--token-audiences: {audience:?} is the API server's own; a token for it could be used against the cluster");
    }
    Ok(Terms {
        allow_ambient: arguments.allow_ambient_providers,
        token_audiences: audiences,
        allowed_endpoints: arguments.allowed_endpoints.iter().cloned().collect(),
        home: arguments.pod_namespace.clone(),
    })
}

fn main() -> anyhow::Result<ExitCode> {
    let name = std::env::args_os().next().map(PathBuf::from);
    if name.as_deref().and_then(Path::file_stem).is_some_and(|name| name == PLUGIN) {
        return Ok(match PluginArguments::parse().command {
            PluginCommand::Resources(command) => run_cli(cli::kubectl::run(*command))?,
            PluginCommand::Completion { shell } => cli::complete(PluginArguments::command(), PLUGIN, shell),
        });
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // The parser repeats what it doesn't understand, which may be a value.
        Err(error) if !operates() => return Ok(cli::misunderstood(&error)),
        Err(error) => error.exit(),
    };
    match arguments.command {
        Command::Values(command) => return Ok(run_cli(cli::run(command))?),
        Command::Resources(command) => return Ok(run_cli(cli::kubectl::run(command))?),
        Command::Completion { shell } => return Ok(cli::complete(Arguments::command(), "robotosecret", shell)),
        Command::Controller(arguments) => run_controller(*arguments)?,
        Command::Probe { url } => probe(url)?,
        Command::Crds { dir } => print_crds(dir.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether it is called for what has no values among its arguments.
fn operates() -> bool {
    std::env::args().nth(1).is_some_and(|command| ["controller", "probe", "crds"].contains(&command.as_str()))
}

fn run_cli(command: impl Future<Output = ExitCode>) -> std::io::Result<ExitCode> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command))
}

fn print_crds(dir: Option<&Path>) -> anyhow::Result<()> {
    for crd in api::crds() {
        let yaml = serde_yaml::to_string(&crd)?;
        match dir {
            Some(dir) => {
                let path = dir.join(format!("{}.yaml", crd.spec.names.plural));
                std::fs::write(&path, yaml).with_context(|| format!("writing {}", path.display()))?;
            }
            None => print!("---\n{yaml}"),
        }
    }
    Ok(())
}

#[tokio::main]
async fn probe(url: http::Uri) -> anyhow::Result<()> {
    let mut server = url.into_parts();
    let page = server.path_and_query.replace(http::uri::PathAndQuery::from_static("/"));
    let request = http::Request::get(page.as_ref().map_or("/", |page| page.as_str())).body(kube::client::Body::empty())?;
    let mut config = kube::Config::new(http::Uri::from_parts(server)?);
    config.default_retry = false;
    let ask = async {
        let (head, body) = kube::Client::try_from(config)?.send(request).await?.into_parts();
        anyhow::Ok((head.status, body.collect_bytes().await?))
    };
    let (status, page) = tokio::time::timeout(PROBE_LIMIT, ask).await.context("no answer")??;
    print!("{}", String::from_utf8_lossy(&page));
    anyhow::ensure!(status == http::StatusCode::OK, "the answer is {status}");
    Ok(())
}

#[tokio::main]
async fn run_controller(arguments: ControllerArguments) -> anyhow::Result<()> {
    // Not by the parser of arguments, which repeats what it refuses: a password may be in it.
    let endpoint = arguments.otlp_endpoint.as_deref().map(traces::endpoint).transpose().map_err(|advice| anyhow::anyhow!("--otlp-endpoint: {advice}"))?;
    let traces = endpoint.map(|endpoint| Traces::start(&endpoint, arguments.pod_name.as_deref())).transpose()?;
    logs::start(&arguments.log_level, arguments.log_format, traces.as_ref().map(Traces::layer)).context("--log-level")?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    let config = apiserver::find(None, None).await?;
    let (metrics, readiness, insight) = (Metrics::default(), Readiness::default(), Insight::default());
    let scrape = {
        let (metrics, insight) = (metrics.clone(), insight.clone());
        move || insight.metrics(&metrics, arguments.resource_metrics)
    };
    let terms = terms(&config, &arguments).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), crd = api::RobotoSecret::crd_name(), "starting");
    let namespaces: BTreeSet<String> = arguments.namespaces.into_iter().collect();
    let push: BTreeSet<String> = arguments.push_namespaces.into_iter().collect();
    if let Some(foreign) = push.iter().find(|namespace| !namespaces.is_empty() && !namespaces.contains(*namespace)) {
        anyhow::bail!("--push-namespaces: {foreign} is not among the --namespaces that are served");
    }
    let settings = Settings {
        // Twice the same would be two watches that work on the same resources.
        namespaces: namespaces.into_iter().collect(),
        concurrency: arguments.concurrency,
        status_interval: arguments.status_interval,
        allow_rollout: arguments.allow_rollout,
        fan_out: arguments.cluster_robotosecrets,
        push: push.into_iter().collect(),
        terms,
        confined: arguments.confined,
        lease: arguments.lease,
        instance: arguments.pod_name,
    };
    // The probes go on answering while the controller finishes.
    let health_stop = CancellationToken::new();
    let health = health::serve(arguments.listen, scrape, readiness.clone(), health_stop);
    let controller = controller::run(config, settings, metrics, readiness, insight, stop.clone());
    tokio::pin!(controller);
    let ended = tokio::select! {
        ended = &mut controller => ended.context("the controller"),
        served = health => {
            stop.cancel(); // Nobody could tell whether the controller lives.
            let ended = controller.await;
            served.context("the health server").and(ended.context("the controller"))
        }
    };
    if let Some(traces) = traces {
        traces.finish().await;
    }
    ended
}

async fn stop_on_signal(stop: CancellationToken) {
    let interrupt = tokio::signal::ctrl_c();
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate => {}
    }
    stop.cancel();
}
