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
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "cluster" -d 'Ask the engine of the cluster at cluster.engine: exit code 0 if it answers, 1 if not'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "ctl" -d 'Ask a running edge at admin.address, or have it change something: exit code 0 if it did, 1 if not, 2 if the call is wrong'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "top" -d 'Show a running edge at admin.address, each second'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "admin-token" -d 'Print a new token for admin.token_file'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "metrics" -d 'Describe the metrics that an edge has at metrics.address'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "upgrade" -d 'Have the edge at general.upgrade_socket start a new process, which takes over its clients: exit code 0 if it has, 1 if not'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "take-over" -d 'Take over from the edge at general.upgrade_socket, and serve in its place'
complete -c voltlane -n "__fish_voltlane_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -l record -d 'Record what the edge is told, so that it can be run again. It has one shard then' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -l record-bytes -d 'The bytes that the recording has at most: it keeps the last ones, in four files' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand run" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -l secs -d 'End after this many seconds [default: at Ctrl-C]' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -l edges -d 'Run this many edges, each a process, and kill one now and then: its clients go on at the others' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -l backends -d 'With --edges: run this many backends, and kill one by turns with an edge: its sessions go to another one [default: 1]' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -l kill-every -d 'With --edges: kill one each time that so many seconds have passed [default: 5]' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -l clients -d 'With --edges: how many clients there are [default: 4 for each edge]' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -l engine -d 'With --edges: have them agree by an engine, which is started for it. Its server has to be in the PATH' -r -f -a "nats\t'nats-server, with JetStream'
redis\t'redis-server'"
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -l web -d 'Serve a page on which all draw, and print its link'
complete -c voltlane -n "__fish_voltlane_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c voltlane -n "__fish_voltlane_using_subcommand connect" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand echo" -l listen -d 'Address to listen on' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand echo" -l edges -d 'Take up to this many edges, each with a cluster.home of its own' -r
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
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and not __fish_seen_subcommand_from status help" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and not __fish_seen_subcommand_from status help" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and not __fish_seen_subcommand_from status help" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and not __fish_seen_subcommand_from status help" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and not __fish_seen_subcommand_from status help" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and not __fish_seen_subcommand_from status help" -f -a "status" -d 'Show the homes, their terms, who has them and until when, and the backends'
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and not __fish_seen_subcommand_from status help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and __fish_seen_subcommand_from status" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show the homes, their terms, who has them and until when, and the backends'
complete -c voltlane -n "__fish_voltlane_using_subcommand cluster; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "status" -d 'Show totals, and whether it is ready'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "config" -d 'Show the configuration in effect'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "sessions" -d 'List sessions'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "session" -d 'Show one session'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "kick" -d 'End a session, or those of a network or of a listener'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "bans" -d 'List banned networks'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "ban" -d 'Accept no more connections from a network'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "unban" -d 'Lift the ban of a network'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "drain" -d 'Begin no more sessions, and ask clients of version 3 to leave'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "reload" -d 'Have the configuration read again, as SIGHUP does'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "log" -d 'Change the level of the log for a while'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "tail" -d 'Show the status each second, on a line'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and not __fish_seen_subcommand_from status config sessions session kick bans ban unban drain reload log tail help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from status" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from config" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from config" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from sessions" -l state -d 'Only those that are attached, or away' -r -f -a "attached\t''
away\t''"
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from sessions" -l source -d 'Only those of a network' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from sessions" -l listener -d 'Only those of the listener with this name' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from sessions" -l sort -d 'The first ones in this order, the largest first, in place of a page' -r -f -a "queue\t''
backlog\t''
resumes\t''
age\t''
away\t''"
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from sessions" -l limit -d 'How many, at most 1000' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from sessions" -l after -d 'Go on behind another page' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from sessions" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from sessions" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from session" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from session" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from kick" -l source -d 'All of a network or an address. Those of a network in limits.exempt have no source' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from kick" -l listener -d 'All of the listener with this name that are attached' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from kick" -l code -d 'The code that its client is told: 401, 405 or 500 to 699' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from kick" -l wait-ms -d 'How long its client is to wait' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from kick" -l text -d 'The words that its client is told' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from kick" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from kick" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from bans" -l after -d 'Go on behind the last network of another page' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from bans" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from bans" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from ban" -l secs -d 'For how long [default: until it is lifted]' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from ban" -l note -d 'Words for people' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from ban" -l force -d 'Also if this machine or the caller is in it'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from ban" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from ban" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from unban" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from unban" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l spread-secs -d 'Within how many seconds they are to leave; 0: they are not asked' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l backend -d 'Only at this one of several backends, whose number is in the status: nobody is asked to leave' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l undo -d 'Undo it'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l move -d 'Its sessions go to the other backends, each where the backend acknowledged the last of it; with --undo: no more do'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from drain" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from reload" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from log" -l secs -d 'For how long, at most an hour' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from log" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from log" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from tail" -l secs -d 'End after this many seconds' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from tail" -l json -d 'Print the answer as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from tail" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show totals, and whether it is ready'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "config" -d 'Show the configuration in effect'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "sessions" -d 'List sessions'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "session" -d 'Show one session'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "kick" -d 'End a session, or those of a network or of a listener'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "bans" -d 'List banned networks'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "ban" -d 'Accept no more connections from a network'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "unban" -d 'Lift the ban of a network'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "drain" -d 'Begin no more sessions, and ask clients of version 3 to leave'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "reload" -d 'Have the configuration read again, as SIGHUP does'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "log" -d 'Change the level of the log for a while'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "tail" -d 'Show the status each second, on a line'
complete -c voltlane -n "__fish_voltlane_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c voltlane -n "__fish_voltlane_using_subcommand top" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand top" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand top" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand top" -l once -d 'Show it once'
complete -c voltlane -n "__fish_voltlane_using_subcommand top" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand admin-token" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand metrics" -l describe -d 'Print each metric with its type, unit and labels, and what it tells'
complete -c voltlane -n "__fish_voltlane_using_subcommand metrics" -l json -d 'Print it as JSON'
complete -c voltlane -n "__fish_voltlane_using_subcommand metrics" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand upgrade" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand upgrade" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand upgrade" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand upgrade" -l program -d 'The new program [default: the file that the running one was started from]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand upgrade" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand take-over" -l config -d 'Configuration file [default: connserver.toml]' -r -F
complete -c voltlane -n "__fish_voltlane_using_subcommand take-over" -l listen -d 'Address to listen on, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand take-over" -l master -d 'Address of the backend, before what the configuration says' -r
complete -c voltlane -n "__fish_voltlane_using_subcommand take-over" -s h -l help -d 'Print help'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "run" -d 'Serve, as without a command; SIGHUP has the configuration read again'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "demo" -d 'Show an edge, a backend and clients that keep dropping, all in this process'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "connect" -d 'Be a client: each line of standard input is a packet, but for /drop, /quit and /help'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "echo" -d 'Be a backend that sends every packet back'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "check" -d 'Say whether the configuration is good, and where each value comes from'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "health" -d 'Ask a running edge at metrics.address whether it is ready: exit code 0 if it is, 1 if not'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "cluster" -d 'Ask the engine of the cluster at cluster.engine: exit code 0 if it answers, 1 if not'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "ctl" -d 'Ask a running edge at admin.address, or have it change something: exit code 0 if it did, 1 if not, 2 if the call is wrong'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "top" -d 'Show a running edge at admin.address, each second'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "admin-token" -d 'Print a new token for admin.token_file'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "metrics" -d 'Describe the metrics that an edge has at metrics.address'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "upgrade" -d 'Have the edge at general.upgrade_socket start a new process, which takes over its clients: exit code 0 if it has, 1 if not'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "take-over" -d 'Take over from the edge at general.upgrade_socket, and serve in its place'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and not __fish_seen_subcommand_from run demo connect echo check health cluster ctl top admin-token metrics upgrade take-over help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from cluster" -f -a "status" -d 'Show the homes, their terms, who has them and until when, and the backends'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "status" -d 'Show totals, and whether it is ready'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "config" -d 'Show the configuration in effect'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "sessions" -d 'List sessions'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "session" -d 'Show one session'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "kick" -d 'End a session, or those of a network or of a listener'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "bans" -d 'List banned networks'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "ban" -d 'Accept no more connections from a network'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "unban" -d 'Lift the ban of a network'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "drain" -d 'Begin no more sessions, and ask clients of version 3 to leave'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "reload" -d 'Have the configuration read again, as SIGHUP does'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "log" -d 'Change the level of the log for a while'
complete -c voltlane -n "__fish_voltlane_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "tail" -d 'Show the status each second, on a line'
