//! `layerpin check`: the verdicts of the webhooks, on files.

use std::io;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use futures_util::stream;

use crate::cli::ExitStatus;
use crate::cli::args::{CheckArgs, Format};
use crate::cli::load::LoadedFiles;
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::save_facts;
use crate::cli::session::Session;
use crate::report::{ObjectReport, Report, Style, Summary};

/// Judges what the paths name and writes the report to standard output.
///
/// A file that cannot be read never keeps the rest from being judged.
pub fn run(options: &CheckArgs) -> anyhow::Result<ExitStatus> {
    let session = Session::open(&options.facts)?;
    let style = output::style(&io::stderr());
    let files = LoadedFiles::of(&options.paths);
    files.report(style);
    let LoadedFiles { count, subjects, unread, .. } = files;

    let progress = Progress::of("judged", subjects.len(), "MachineConfigs");
    let (objects, facts) = session.run(async |engine| {
        let judged = stream::iter(subjects).map(async |subject| {
            let judgement = engine.judge(&subject, &session.policy, session.deadline()).await;
            progress.done().fetch_add(1, Ordering::Relaxed);
            ObjectReport::of_judgement(&subject, &judgement, &session.policy)
        });
        judged.buffered(SIDE_BY_SIDE).collect::<Vec<_>>().await
    })?;
    drop(progress);

    let failed = unread.len();
    let report = Report::of_files(&session.policy, objects, unread);
    let status = match report.summary {
        _ if failed > 0 => ExitStatus::Incomplete,
        Summary { denied: 0, .. } => ExitStatus::Clean,
        _ => ExitStatus::Denied,
    };
    let status = status.max(save_facts::save(&options.record, &facts));
    output::data(&match options.format {
        Format::Text => report.to_text(output::style(&io::stdout())),
        Format::Json => report.to_json(),
        Format::Sarif => report.to_sarif(status as u8),
        Format::Github => report.to_github(),
    })?;
    if let (Format::Text, Some(remark)) = (options.format, report.remark()) {
        output::remark(&format!("{}: {remark}\n", style.note("note")));
    }
    output::remark(&format!("{}\n", summary(report.summary, count, failed, style)));
    Ok(status)
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
