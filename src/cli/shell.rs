//! `dlrm-bench completions` and `dlrm-bench man`: the command line for shells and manuals.

use super::{Cli, Exit, Failure, examples};
use crate::workload::shipped;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::path::PathBuf;

const COMPLETIONS: &str = "\
Examples:
  source <(dlrm-bench completions bash)
  dlrm-bench completions zsh > ~/.zfunc/_dlrm-bench
  dlrm-bench completions fish > ~/.config/fish/completions/dlrm-bench.fish";

const MAN: &str = "\
Examples:
  dlrm-bench man | man -l -
  dlrm-bench man -o ~/.local/share/man/man1";

/// Print the script that completes the command line in a shell
#[derive(Debug, Args)]
#[command(after_help = examples(COMPLETIONS))]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// Print the manual page
#[derive(Debug, Args)]
#[command(after_help = examples(MAN))]
pub struct ManArgs {
    /// Write the page of every command into this folder instead
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// Runs `completions`.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dlrm-bench", &mut script);
    out!("{}", with_workloads(args.shell, &String::from_utf8_lossy(&script)));
    Ok(Exit::Done)
}

/// Where a command takes a workload, a file or a name may stand. The scripts as they are generated
/// offer names only (zsh) or files only (fish); bash takes a file's name where no word fits.
fn with_workloads(shell: Shell, script: &str) -> String {
    let names = shipped::names().collect::<Vec<_>>().join(" ");
    match shell {
        Shell::Zsh => {
            let words = format!("({names})");
            let either =
                format!(r#"{{_alternative "workloads:workload:{words}" "files:file:_files"}}"#);
            // Behind an option's value more may follow, so that colons there stand for themselves
            // only behind a backslash.
            let of_option = either.replace(':', r"\:");
            let line = |line: &str| match line.trim_start().starts_with("'--") {
                true => line.replace(&words, &of_option),
                false => line.replace(&words, &either),
            };
            script.split_inclusive('\n').map(line).collect()
        }
        Shell::Fish => {
            let line = |command: &str| {
                format!(
                    "complete -c dlrm-bench -n \"__fish_dlrm_bench_using_subcommand {command}\" -a \"{names}\"\n"
                )
            };
            ["run", "gate"].iter().fold(script.to_owned(), |out, c| out + &line(c))
        }
        // The generator looks for the hyphen of our name in another form than it writes.
        Shell::Bash => script.replace("dlrm__subcmd__bench", "dlrm__bench"),
        _ => script.to_owned(),
    }
}

/// Runs `man`.
pub(super) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let command = Cli::command().disable_help_subcommand(true);
    match &args.output {
        Some(dir) => {
            let failed = |e| Failure::Output(format!("cannot write {}: {e}", dir.display()));
            std::fs::create_dir_all(dir).map_err(failed)?;
            clap_mangen::generate_to(command, dir).map_err(failed)?;
            Ok(Exit::Done)
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(|e| Failure::Internal(e.to_string()))?;
            out!("{}", String::from_utf8_lossy(&page));
            Ok(Exit::Done)
        }
    }
}
