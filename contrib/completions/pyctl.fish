# fish completion for pyctl; made by: pyctl completion fish
function __pyctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l directive
    for line in ($words[1] __complete $words[2..-1] 2>/dev/null)
        if string match -q ':*' -- $line
            set directive (string sub -s 2 -- $line)
        else
            echo $line
        end
    end
    set -l option (string match -r '^--[^=]*=' -- (commandline -ct))
    set -l typed (string replace -r '^--[^=]*=' '' -- (commandline -ct))
    switch "$directive"
        case file
            for path in (__fish_complete_path $typed)
                echo $option$path
            end
        case dir
            for path in (__fish_complete_directories $typed)
                echo $option$path
            end
        case command
            __fish_complete_command
    end
end
complete -c pyctl -f -a '(__pyctl_complete)'
