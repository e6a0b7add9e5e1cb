# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_voltlane_global_optspecs
    string join \n config= listen= master= h/help V/version
end

function __fish_voltlane_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_voltlane_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_voltlane_using_subcommand
    set -l cmd (__fish_voltlane_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c voltlane -n "__fish_voltlane_needs_command" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_needs_command" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_needs_command" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_needs_command" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_needs_command" -s V -l version -d 'Print version'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "run" -d 'Serve, as without a command; SIGHUP has the configuration read again'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "demo" -d 'Show an edge, a backend and clients that keep dropping, all in this process'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "connect" -d 'Be a client: each line of standard input is a packet, but for /drop, /quit and /help'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "echo" -d 'Be a backend that sends every packet back'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "check" -d 'Say whether the configuration is good, and where each value comes from'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "health" -d 'Ask a running edge at metrics.address whether it is ready: exit code 0 if it is, 1 if not'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -l secs -d 'End after this many seconds [default: at Ctrl-C]' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -l web -d 'Serve a page on which all draw, and print its link'
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand connect" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand echo" -l listen -d 'Address to listen on' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand echo" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand check" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand check" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand check" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand check" -l json -d 'Print the answer as JSON on standard output, errors as well'
complete -c voltlane -n "__fish_voltlane_using_subcommand check" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand health" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand health" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand health" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand health" -l alive -d 'Ask only whether it runs, and not whether it has a backend'
complete -c voltlane -n "__fish_voltlane_using_subcommand health" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health help" -f -a "run" -d 'Serve, as without a command; SIGHUP has the configuration read again'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health help" -f -a "demo" -d 'Show an edge, a backend and clients that keep dropping, all in this process'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health help" -f -a "connect" -d 'Be a client: each line of standard input is a packet, but for /drop, /quit and /help'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health help" -f -a "echo" -d 'Be a backend that sends every packet back'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health help" -f -a "check" -d 'Say whether the configuration is good, and where each value comes from'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health help" -f -a "health" -d 'Ask a running edge at metrics.address whether it is ready: exit code 0 if it is, 1 if not'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
