# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_moteway_global_optspecs
    string join \n h/help V/version
end

function __fish_moteway_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_moteway_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_moteway_using_subcommand
    set -l cmd (__fish_moteway_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c moteway -n "__fish_moteway_needs_command" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_needs_command" -s V -l version -d 'Print version'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "run" -d 'Run the gateway in the foreground'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "check" -d 'Look for mistakes in a configuration, and say how to mend them'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "route" -d 'Say what becomes of a message, without sending one'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "status" -d 'Say how the running gateway is, on one screen'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "clients" -d 'List the clients of the running gateway, or send one away'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "queue" -d 'Look into the stored queues and the dead letters of the running gateway, replay and delete'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "drill" -d 'Predict an outage from the present traffic: what it would lose, and how long it would be felt'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "log-level" -d 'Change what the running gateway logs, or say what it logs'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "reload" -d 'Have the running gateway read its configuration again'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "backup" -d 'Copy messages, configuration and secrets of a gateway, running or not, into one file'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "restore" -d 'Put what is in a backup back in its place'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "certs" -d 'Make a CA and certificates for development and trials'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "import" -d 'Turn a mosquitto.conf into a configuration for moteway, and name what cannot be carried over'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "passwd" -d 'Set or delete the password of a user'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "config" -d 'Print configurations'
complete -c moteway -n "__fish_moteway_needs_command" -f -a "demo" -d 'Show the whole system on this machine: sensors, gateway, cloud, an outage and a ledger'
complete -c moteway -n "__fish_moteway_using_subcommand run" -s c -l config -d 'The configuration; the files conf.d/*.toml beside it are laid over it' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand run" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand check" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand route" -l from -d 'The message comes from this upstream, not from a local client' -r
complete -c moteway -n "__fish_moteway_using_subcommand route" -l user -d 'A client with this proved name publishes or reads it' -r
complete -c moteway -n "__fish_moteway_using_subcommand route" -l client-id -d 'A client with this client id publishes or reads it' -r
complete -c moteway -n "__fish_moteway_using_subcommand route" -s c -l config -d 'The configuration; the files conf.d/*.toml beside it are laid over it' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand route" -l anonymous -d 'A client without name or client id publishes or reads it'
complete -c moteway -n "__fish_moteway_using_subcommand route" -l json -d 'Print JSON'
complete -c moteway -n "__fish_moteway_using_subcommand route" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c moteway -n "__fish_moteway_using_subcommand status" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand status" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand status" -l json -d 'Print JSON, as the document api.md describes it'
complete -c moteway -n "__fish_moteway_using_subcommand status" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand clients; and not __fish_seen_subcommand_from kick" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand clients; and not __fish_seen_subcommand_from kick" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand clients; and not __fish_seen_subcommand_from kick" -l json -d 'Print JSON, as the document api.md describes it'
complete -c moteway -n "__fish_moteway_using_subcommand clients; and not __fish_seen_subcommand_from kick" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand clients; and not __fish_seen_subcommand_from kick" -f -a "kick" -d 'End the connection of a client, which may come again'
complete -c moteway -n "__fish_moteway_using_subcommand clients; and __fish_seen_subcommand_from kick" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand clients; and __fish_seen_subcommand_from kick" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand clients; and __fish_seen_subcommand_from kick" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and not __fish_seen_subcommand_from ls peek export purge dead" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and not __fish_seen_subcommand_from ls peek export purge dead" -f -a "ls" -d 'List the stored queues: how full, how old, what was dropped and why'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and not __fish_seen_subcommand_from ls peek export purge dead" -f -a "peek" -d 'Show the oldest messages of a queue; they stay where they are'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and not __fish_seen_subcommand_from ls peek export purge dead" -f -a "export" -d 'Write all stored messages of a queue, a line of JSON for each; they stay where they are'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and not __fish_seen_subcommand_from ls peek export purge dead" -f -a "purge" -d 'Delete all messages of a queue of an upstream'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and not __fish_seen_subcommand_from ls peek export purge dead" -f -a "dead" -d 'Dead letters: messages that an upstream will never take'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from ls" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from ls" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from ls" -l json -d 'Print JSON'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from peek" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from peek" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from peek" -s n -l count -d 'So many messages' -r
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from peek" -l json -d 'Print JSON, a line for each'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from peek" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from export" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from export" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from purge" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from purge" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from purge" -l yes -d 'Really: what was acknowledged to its publishers is deleted'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from purge" -l json -d 'Print JSON'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from purge" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from dead" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from dead" -f -a "ls" -d 'List dead letters with their reason'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from dead" -f -a "export" -d 'Write dead letters, a line of JSON for each'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from dead" -f -a "replay" -d 'Send dead letters through the rules of their upstream anew, as the configuration is now'
complete -c moteway -n "__fish_moteway_using_subcommand queue; and __fish_seen_subcommand_from dead" -f -a "purge" -d 'Delete dead letters'
complete -c moteway -n "__fish_moteway_using_subcommand drill" -l outage -d 'How long the links to all upstreams are away, such as 30min, 8h or 3d' -r
complete -c moteway -n "__fish_moteway_using_subcommand drill" -l over -d 'From the traffic of so long; no more than 8 to 16 hours are remembered' -r
complete -c moteway -n "__fish_moteway_using_subcommand drill" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand drill" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand drill" -l json -d 'Print JSON, as the document api.md describes it'
complete -c moteway -n "__fish_moteway_using_subcommand drill" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand log-level" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand log-level" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand log-level" -l json -d 'Print JSON'
complete -c moteway -n "__fish_moteway_using_subcommand log-level" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand reload" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand reload" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand reload" -l json -d 'Print JSON'
complete -c moteway -n "__fish_moteway_using_subcommand reload" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand backup" -s c -l config -d 'The configuration of the gateway that is asked; it names the control socket' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand backup" -l socket -d 'The control socket, when it is not the one that the configuration names' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand backup" -l json -d 'Print JSON'
complete -c moteway -n "__fish_moteway_using_subcommand backup" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand restore" -l root -d 'Below this directory instead of /, for a system that is not the running one' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand restore" -l force -d 'Replace what is there'
complete -c moteway -n "__fish_moteway_using_subcommand restore" -l json -d 'Print JSON'
complete -c moteway -n "__fish_moteway_using_subcommand restore" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand certs" -l server -d 'One more name or IP address by which clients reach the listener; may be given several times' -r
complete -c moteway -n "__fish_moteway_using_subcommand certs" -l client -d 'The name in the client\'s certificate' -r
complete -c moteway -n "__fish_moteway_using_subcommand certs" -l upstream -d 'The name in the certificate that the gateway shows to an upstream' -r
complete -c moteway -n "__fish_moteway_using_subcommand certs" -l days -d 'How long the certificates are good; the CA is good for ten years' -r
complete -c moteway -n "__fish_moteway_using_subcommand certs" -l json -d 'Print JSON'
complete -c moteway -n "__fish_moteway_using_subcommand certs" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand import" -s o -l output -d 'Where to write; passwords of bridges get files of their own beside it. Without it, the result is printed' -r -F
complete -c moteway -n "__fish_moteway_using_subcommand import" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand passwd" -s D -l delete -d 'Delete the user'
complete -c moteway -n "__fish_moteway_using_subcommand passwd" -s c -l create -d 'Make the file when there is none'
complete -c moteway -n "__fish_moteway_using_subcommand passwd" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand config; and not __fish_seen_subcommand_from default" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand config; and not __fish_seen_subcommand_from default" -f -a "default" -d 'The commented file with every key and its default'
complete -c moteway -n "__fish_moteway_using_subcommand config; and __fish_seen_subcommand_from default" -s h -l help -d 'Print help'
complete -c moteway -n "__fish_moteway_using_subcommand demo" -l keep -d 'Leave configurations, certificates, stores and logs behind, to look at them'
complete -c moteway -n "__fish_moteway_using_subcommand demo" -l fast -d 'Tell the same story in a third of the time'
complete -c moteway -n "__fish_moteway_using_subcommand demo" -s h -l help -d 'Print help'
