//! The program: what the command line asks for, and nothing else.

use trestle::args::{self, Command, UsageError};
use trestle::config::{self, source, summary};
use trestle::{lab, runtime};

fn main() {
    std::process::exit(run());
}

fn run() -> i32 {
    let command = match args::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(UsageError::Flag(why)) => {
            eprintln!("{why}\n{}", args::usage());
            return args::EXIT_USAGE;
        }
        Err(UsageError::Refused(why)) => return refuse(&why),
    };
    match command {
        Command::Help => println!("{}", args::usage()),
        Command::Version => println!("{}", args::VERSION_LINE),
        Command::TestConfig(flags) => match config::load(&source::Disk, &flags) {
            Ok(config) => print!("{}", summary::checked(&config)),
            Err(error) => return refuse(&error),
        },
        Command::Serve(flags) => match config::load(&source::Disk, &flags) {
            Ok(config) => return runtime::serve(config, &flags),
            Err(error) => return refuse(&error),
        },
        Command::Signal(request) => match runtime::signals::send(&request) {
            Ok(()) => {}
            Err(why) => return refuse(&why),
        },
        Command::Lab(words) => return lab::run(&words),
        Command::Check(words) => return runtime::check::run(&words),
    }
    0
}

fn refuse(why: &dyn std::fmt::Display) -> i32 {
    eprintln!("nats-server: {why}");
    1
}
