//! `layerpin explain`: the lineage of an image, drawn.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::cli::ExitStatus;
use crate::cli::args::{ExplainArgs, ExplainFormat};
use crate::cli::inputs::{ReadError, STANDARD_INPUT};
use crate::cli::load::LoadedFiles;
use crate::cli::output;
use crate::cli::save_facts;
use crate::cli::session::Session;
use crate::engine::Engine;
use crate::explain::{Explanation, ImageExplanation};
use crate::lineage;
use crate::model::facts::Facts;
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, Subject};
use crate::model::question::{Freshness, Question, Step};
use crate::pools;
use crate::text::shown;

/// Explains what was named. The drawing goes to standard output, messages to standard error.
pub fn run(options: &ExplainArgs) -> anyhow::Result<ExitStatus> {
    let (targets, status) = targets(&options.what)?;
    let session = Session::open(&options.facts)?;
    let (images, facts) = session.run(async |engine| {
        let mut images = Vec::new();
        for target in &targets {
            images.push(explain(engine, &session, target).await);
        }
        images
    })?;
    let status = status.max(save_facts::save(&options.record, &facts));
    let explanation = Explanation::new(images);
    output::data(&match options.format {
        ExplainFormat::Text => explanation.to_text(width(), output::style(&io::stdout())),
        ExplainFormat::Json => explanation.to_json(),
        ExplainFormat::Dot => explanation.to_dot(),
        ExplainFormat::Mermaid => explanation.to_mermaid(),
    })?;
    Ok(status)
}

async fn explain(engine: &Engine, session: &Session, target: &ExplainTarget) -> ImageExplanation {
    let ExplainTarget { image, subject } = target;
    let step = |facts: &Facts| {
        let affected = subject.as_ref().map(|subject| pools::affected(subject, &facts.cluster));
        let judged = lineage::judge(image, &affected.unwrap_or_default(), facts, &session.policy);
        let mut questions = judged.questions;
        // The explanation also says which registry answered for the image.
        let manifest = Question::manifest(image.pull_spec(), Freshness::Cached);
        questions.extend((!manifest.is_answered_by(facts)).then_some(manifest));
        Step::after(questions, || judged.lineage)
    };
    let (lineage, facts) = engine.resolve(&session.policy, session.deadline(), step).await;
    let name = subject.as_ref().map(|subject| subject.name.as_str());
    ImageExplanation::new(name, image, &lineage, &facts)
}

/// What is to be explained.
struct ExplainTarget {
    image: ImageReference,
    /// The MachineConfig that names it.
    subject: Option<Subject>,
}

/// The images that `what` names: one, or those of the MachineConfigs in a file or folder. Files that cannot be read
/// make the status incomplete.
fn targets(what: &str) -> anyhow::Result<(Vec<ExplainTarget>, ExitStatus)> {
    if what == "-" || Path::new(what).exists() {
        return in_files(what);
    }
    match ImageReference::parse(what) {
        Ok(image) => Ok((vec![ExplainTarget { image, subject: None }], ExitStatus::Clean)),
        Err(_) if is_path(what) => bail!("{}: no such file", shown(what)),
        Err(error) => bail!("{error}\nhelp: {}", error.help()),
    }
}

/// Tells whether the argument looks like a path.
fn is_path(what: &str) -> bool {
    let endings = [".yaml", ".yml", ".json", "/"];
    what.starts_with(['/', '.', '~']) || endings.iter().any(|ending| what.ends_with(ending))
}

fn in_files(what: &str) -> anyhow::Result<(Vec<ExplainTarget>, ExitStatus)> {
    let mut files = LoadedFiles::of(&[PathBuf::from(what)]);
    let mut images = Vec::new();
    for subject in std::mem::take(&mut files.subjects) {
        let Some(image) = subject.object.image(Field::OsImage) else { continue };
        match &image.reference {
            Ok(reference) => {
                images.push(ExplainTarget { image: reference.clone(), subject: Some(subject) });
            }
            Err(error) => files.unread.push(ReadError {
                file: subject.origin.file().unwrap_or_default().to_owned(),
                position: subject.origin.position(Field::OsImage),
                message: format!("{error} ({} of MachineConfig {})", Field::OsImage.pointer(), subject.name),
                help: Some(error.help().to_owned()),
            }),
        }
    }
    let status = if files.unread.is_empty() { ExitStatus::Clean } else { ExitStatus::Incomplete };
    files.report(output::style(&io::stderr()));
    if images.is_empty() && status == ExitStatus::Clean {
        let name = if what == "-" { STANDARD_INPUT } else { what };
        bail!("{}: no MachineConfig in it sets `osImageURL`", shown(name));
    }
    Ok((images, status))
}

/// The columns of the terminal; without one, those of `COLUMNS`, else 100.
fn width() -> usize {
    let terminal = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal());
    let said = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    terminal.map(|(width, _)| usize::from(width.0)).or_else(said).unwrap_or(100)
}
