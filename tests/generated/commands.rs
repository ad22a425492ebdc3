//! moteway(1) and the completions.

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::roff;

fn command() -> Command {
    moteway::cli::Args::command().disable_help_subcommand(true)
}

pub fn completions(shell: Shell) -> String {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command(), "moteway", &mut out);
    tidy(&String::from_utf8(out).unwrap())
}

/// One page for the command and all its subcommands.
pub fn man_page() -> String {
    let mut command = command();
    // Gives subcommands their full names.
    command.build();
    let mut page = roff::title("moteway", 1, "User Commands");
    roff::section(&mut page, "NAME", &[&format!("moteway - {}", command.get_about().unwrap())]);
    page.push_str(&render(&command, Man::render_synopsis_section));
    roff::section(
        &mut page,
        "DESCRIPTION",
        &[
            "One daemon for small Linux routers that have sensors on one side and a cloud on the other. It is an MQTT \
             broker for the local network, an MQTT-SN gateway for radios on UDP and serial lines, and a bridge that \
             carries chosen topics to brokers elsewhere. While the link is down it keeps the messages on disk, and \
             delivers them once and in order afterwards, also when the power went too.",
            "moteway run is the daemon; the other commands are for the operator.",
        ],
    );
    page.push_str(&render(&command, Man::render_options_section));
    page.push_str(".SH COMMANDS\n");
    for subcommand in command.get_subcommands() {
        add_command(&mut page, "moteway", subcommand);
    }
    roff::list(
        &mut page,
        "SIGNALS",
        &[(
            "SIGTERM, SIGINT",
            "The daemon makes everything safe, takes its leave from clients and upstreams, and ends.",
        )],
    );
    roff::list(
        &mut page,
        "EXIT STATUS",
        &[
            ("0", "good"),
            ("1", "failed"),
            ("2", "wrong arguments"),
            ("78", "bad configuration: starting again does not help, and the systemd unit does not"),
        ],
    );
    roff::list(
        &mut page,
        "FILES",
        &[
            ("/etc/moteway/moteway.toml", "the configuration"),
            ("/etc/moteway/conf.d/*.toml", "drop-ins, laid over it in the order of their names"),
            ("/var/lib/moteway/", "messages, sessions and retained messages"),
            ("/usr/share/doc/moteway/", "the manual and examples"),
        ],
    );
    roff::section(&mut page, "SEE ALSO", &["moteway.toml(5), journalctl(1), systemd.service(5)"]);
    tidy(&page)
}

/// A subcommand and those below it, each with a heading of its own.
fn add_command(page: &mut String, parent: &str, command: &Command) {
    let name = format!("{parent} {}", command.get_name());
    let below: Vec<&Command> = command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
    if below.is_empty() {
        page.push_str(&format!(".SS {}\n", roff::escape(&name)));
        page.push_str(&without_heading(&render(command, Man::render_synopsis_section)));
        page.push_str(".PP\n");
        page.push_str(&without_heading(&render(command, Man::render_description_section)));
        page.push_str(&without_heading(&render(command, Man::render_options_section)));
    }
    for command in below {
        add_command(page, &name, command);
    }
}

fn render(command: &Command, section: impl Fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    section(&Man::new(command.clone()), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The generator gives each piece a heading.
fn without_heading(section: &str) -> String {
    section.lines().filter(|line| !line.starts_with(".SH ")).map(|line| format!("{line}\n")).collect()
}

/// No blanks at the end of lines, and an apostrophe that stands for itself.
fn tidy(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with(".ie \\n(.g") && !line.starts_with(".el .ds Aq"));
    lines.map(|line| format!("{}\n", line.replace("\\*(Aq", "'").trim_end())).collect()
}
