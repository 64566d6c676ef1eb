//! `layerpin check`: the verdicts of the webhooks, on files.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream;

use crate::cli::args::{CheckArgs, Format};
use crate::cli::connect;
use crate::cli::inputs::{self, Input, ReadError};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::save_facts;
use crate::cli::{ExitStatus, reasons};
use crate::manifests::{self, FaultKind, Severity};
use crate::metrics::Metrics;
use crate::model::machine_config::Subject;
use crate::report::{ObjectReport, Report, Style, Summary};
use crate::run::Run;

/// Judges what the paths name and writes the report to standard output.
///
/// What cannot be read never keeps the rest from being judged.
pub fn run(options: &CheckArgs) -> anyhow::Result<ExitStatus> {
    let policy = connect::policy(&options.facts)?.current();
    let sources = connect::connect(&options.facts, &Arc::new(Metrics::new()))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let style = output::style(&io::stderr());
    let (inputs, mut unread) = inputs::find(&options.paths);
    let mut harvest = LoadedFiles::of(&inputs);
    unread.append(&mut harvest.unread);
    harvest.tell(&unread, style);

    let run = runtime.block_on(Run::begin(sources, policy, options.facts.timeout));
    let progress = Progress::of("judged", harvest.subjects.len(), "MachineConfigs");
    let objects = runtime.block_on(judge(&run, harvest.subjects, progress.done()));
    drop(progress);
    // An exec plug-in of the kubeconfig may hang for ever, and is not waited for.
    runtime.shutdown_background();

    let failed = unread.len();
    let report = Report::of_files(run.policy(), objects, unread);
    let mut ending = match report.summary() {
        _ if failed > 0 => ExitStatus::Incomplete,
        Summary { denied: 0, .. } => ExitStatus::Clean,
        _ => ExitStatus::Denied,
    };
    if let Some(path) = &options.record.save_facts
        && let Err(error) = save_facts::save(path, &run.facts())
    {
        output::remark(&format!("{}: {}\n", style.error("error"), reasons(&error)));
        ending = ExitStatus::Incomplete;
    }
    output::data(&match options.format {
        Format::Text => report.to_text(output::style(&io::stdout())),
        Format::Json => report.to_json(),
        Format::Sarif => report.to_sarif(ending.code()),
        Format::Github => report.to_github(),
    })?;
    if let (Format::Text, Some(remark)) = (options.format, report.remark()) {
        output::remark(&format!("{}: {remark}\n", style.note("note")));
    }
    output::remark(&format!("{}\n", summary(report.summary(), inputs.len(), failed, style)));
    Ok(ending)
}

/// Judges `subjects` side by side. The order of the reports is that of the subjects.
async fn judge(run: &Run, subjects: Vec<Subject>, done: &AtomicUsize) -> Vec<ObjectReport> {
    stream::iter(subjects)
        .map(async |subject| {
            let report = ObjectReport::of_judgement(&subject, &run.judge(&subject).await);
            done.fetch_add(1, Ordering::Relaxed);
            report
        })
        .buffered(SIDE_BY_SIDE)
        .collect()
        .await
}

/// What the files hold.
#[derive(Default)]
struct LoadedFiles {
    subjects: Vec<Subject>,
    unread: Vec<ReadError>,
    /// Templates that hold a MachineConfig, as far as can be told.
    unrendered: Vec<ReadError>,
    /// Files of a folder that are templates of other things.
    other_templates: usize,
}

impl LoadedFiles {
    fn of(inputs: &[Input]) -> Self {
        let progress = Progress::of("read", inputs.len(), "files");
        let mut all = Self::default();
        for mut harvest in inputs::side_by_side(inputs, progress.done(), Self::of_file) {
            all.subjects.append(&mut harvest.subjects);
            all.unread.append(&mut harvest.unread);
            all.unrendered.append(&mut harvest.unrendered);
            all.other_templates += harvest.other_templates;
        }
        all
    }

    fn of_file(input: &Input) -> Self {
        let mut harvest = Self::default();
        let text = match input.read() {
            Ok(text) => text,
            Err(unread) => {
                harvest.unread.push(unread);
                return harvest;
            }
        };
        let name = input.name();
        let documents = manifests::read(&text);
        for document in documents.documents {
            let mut subject = document.subject;
            subject.origin = subject.origin.in_file(&name, input.pin_command());
            harvest.subjects.push(subject);
        }
        let mut has_other_template = false;
        for fault in documents.faults {
            match fault.severity(input.selection()) {
                Severity::Error => harvest.unread.push(ReadError::of(&name, fault)),
                Severity::Note => harvest.unrendered.push(ReadError::of(&name, fault)),
                Severity::Ignored => has_other_template |= fault.kind == FaultKind::Template,
            }
        }
        harvest.other_templates = usize::from(has_other_template);
        harvest
    }

    /// Says on standard error what was not judged, and why.
    fn tell(&self, unread: &[ReadError], style: Style) {
        let mut text = String::new();
        let severities = [(unread, style.error("error")), (&self.unrendered, style.warning("warning"))];
        for (faults, severity) in severities {
            for fault in faults {
                text.push_str(&output::unread(&severity, fault, style));
            }
        }
        match self.other_templates {
            0 => {}
            1 => text.push_str(&format!(
                "{}: 1 template without a MachineConfig was passed over\n",
                style.note("note")
            )),
            count => text.push_str(&format!(
                "{}: {count} templates without a MachineConfig were passed over\n",
                style.note("note")
            )),
        }
        output::remark(&text);
    }
}

/// The last line: what was looked at, and what came of it.
fn summary(summary: Summary, files: usize, failed: usize, style: Style) -> String {
    let count = |count: usize, thing: &str| match count {
        0 => format!("no {thing}s"),
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    };
    let mut line = format!("{} in {}", count(summary.objects, "MachineConfig"), count(files, "file"));
    if summary.objects > 0 {
        line.push_str(&format!(": {}", summary.to_text(style)));
    }
    if failed > 0 {
        line.push_str(&format!("; {} could not be judged", style.error(&count(failed, "place"))));
    }
    line
}

/// Objects that are judged at a time. What they ask of one registry is bounded again by the client.
const SIDE_BY_SIDE: usize = 32;
