//! `layerpin explain`: the lineage of an image, drawn.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::cli::args::{ExplainArgs, ExplainFormat};
use crate::cli::connect;
use crate::cli::inputs::{self, ReadError, STANDARD_INPUT};
use crate::cli::output;
use crate::cli::save_facts;
use crate::cli::{ExitStatus, reasons};
use crate::explain::{Explanation, ImageExplanation};
use crate::lineage;
use crate::manifests::{self, Severity};
use crate::metrics::Metrics;
use crate::model::facts::Facts;
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, Subject};
use crate::model::question::Question;
use crate::pools;
use crate::run::Run;
use crate::text::shown;

/// Explains what was named. The drawing goes to standard output, words to standard error.
pub fn run(options: &ExplainArgs) -> anyhow::Result<ExitStatus> {
    let sought = sought(&options.what)?;
    let policy = connect::policy(&options.facts)?.current();
    let sources = connect::connect(&options.facts, &Arc::new(Metrics::new()))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let (explanation, facts) = runtime.block_on(async {
        let run = Run::begin(sources, policy, options.facts.timeout).await;
        let mut images = Vec::new();
        for sought in &sought.images {
            images.push(explain(&run, sought).await);
        }
        (Explanation::new(images), run.facts())
    });
    // An exec plug-in of the kubeconfig may hang for ever, and is not waited for.
    runtime.shutdown_background();
    let mut ending = sought.ending;
    if let Some(path) = &options.record.save_facts
        && let Err(error) = save_facts::save(path, &facts)
    {
        let style = output::style(&io::stderr());
        output::remark(&format!("{}: {}\n", style.error("error"), reasons(&error)));
        ending = ExitStatus::Incomplete;
    }
    output::data(&match options.format {
        ExplainFormat::Text => explanation.to_text(width(), output::style(&io::stdout())),
        ExplainFormat::Json => explanation.to_json(),
        ExplainFormat::Dot => explanation.to_dot(),
        ExplainFormat::Mermaid => explanation.to_mermaid(),
    })?;
    Ok(ending)
}

async fn explain(run: &Run, sought: &ExplainTarget) -> ImageExplanation {
    let ExplainTarget { image, subject } = sought;
    let judge = |facts: &Facts| {
        let affected = subject.as_ref().map(|subject| pools::affected(subject, &facts.cluster));
        lineage::judge(image, &affected.unwrap_or_default(), facts, run.policy())
    };
    // Who answers for the image is told, too.
    let named = Question::manifest(image.pull_spec());
    let questions = |facts: &Facts| {
        let mut questions = judge(facts).questions;
        questions.extend((!named.is_answered_by(facts)).then(|| named.clone()));
        questions
    };
    let facts = run.learn(questions).await;
    let name = subject.as_ref().map(|subject| subject.name.as_str());
    ImageExplanation::new(name, image, &judge(&facts).lineage, &facts)
}

/// What is to be explained.
struct ExplainTargets {
    images: Vec<ExplainTarget>,
    ending: ExitStatus,
}

struct ExplainTarget {
    image: ImageReference,
    /// The MachineConfig that names it.
    subject: Option<Subject>,
}

/// The images that `what` names: one, or those of the MachineConfigs in a file or folder.
fn sought(what: &str) -> anyhow::Result<ExplainTargets> {
    if what == "-" || Path::new(what).exists() {
        return in_files(what);
    }
    match ImageReference::parse(what) {
        Ok(image) => Ok(ExplainTargets {
            images: vec![ExplainTarget { image, subject: None }],
            ending: ExitStatus::Clean,
        }),
        Err(_) if is_path(what) => bail!("{}: no such file", shown(what)),
        Err(error) => bail!("{error}\nhelp: {}", error.help()),
    }
}

/// Tells whether somebody who writes this means a file.
fn is_path(what: &str) -> bool {
    let endings = [".yaml", ".yml", ".json", "/"];
    what.starts_with(['/', '.', '~']) || endings.iter().any(|ending| what.ends_with(ending))
}

fn in_files(what: &str) -> anyhow::Result<ExplainTargets> {
    let (inputs, unread) = inputs::find(&[PathBuf::from(what)]);
    let mut sought = ExplainTargets { images: Vec::new(), ending: ExitStatus::Clean };
    let style = output::style(&io::stderr());
    let mut fail = |fault: &ReadError| {
        output::remark(&output::unread(&style.error("error"), fault, style));
        sought.ending = ExitStatus::Incomplete;
    };
    unread.iter().for_each(&mut fail);
    for input in &inputs {
        let text = match input.read() {
            Ok(text) => text,
            Err(fault) => {
                fail(&fault);
                continue;
            }
        };
        let read = manifests::read(&text);
        let name = input.name();
        for fault in read.faults {
            match fault.severity(input.selection()) {
                Severity::Error => fail(&ReadError::of(&name, fault)),
                Severity::Note => {
                    let fault = ReadError::of(&name, fault);
                    output::remark(&output::unread(&style.warning("warning"), &fault, style));
                }
                Severity::Ignored => {}
            }
        }
        for document in read.documents {
            let subject = document.subject;
            let Some(image) = subject.object.image(Field::OsImage) else { continue };
            match &image.reference {
                Ok(reference) => {
                    let image = reference.clone();
                    sought.images.push(ExplainTarget { image, subject: Some(subject) });
                }
                Err(error) => fail(&ReadError {
                    file: name.clone(),
                    position: subject.origin.position(Field::OsImage),
                    message: format!(
                        "{error} ({} of MachineConfig {})",
                        Field::OsImage.pointer(),
                        subject.name
                    ),
                    help: Some(error.help().to_owned()),
                }),
            }
        }
    }
    if sought.images.is_empty() && sought.ending == ExitStatus::Clean {
        let name = if what == "-" { STANDARD_INPUT } else { what };
        bail!("{}: no MachineConfig in it names an `osImageURL`", shown(name));
    }
    Ok(sought)
}

/// The columns of the terminal; where there is none, those that `COLUMNS` says, else 100.
fn width() -> usize {
    let terminal = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal());
    let said = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    terminal.map(|(width, _)| usize::from(width.0)).or_else(said).unwrap_or(100)
}
