"""`completion`: the shells' scripts.  They only call `pyctl __complete`, so they never go stale.  Weight: nothing."""

from __future__ import annotations

import sys

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

_BASH = r"""# bash completion for pyctl; made by: pyctl completion bash
_pyctl() {
    local line=${COMP_LINE:0:COMP_POINT} directive="" words found=() kept="" breaks=""
    # Not COMP_WORDS: readline splits those at = and : too, which stand in options and names of images.
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current=${words[${#words[@]}-1]}
    while IFS= read -r line; do
        case $line in
            :*) directive=${line#:} ;;
            *) found+=("${line%%$'\t'*}") ;;
        esac
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
    case $directive in
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "${current#--*=}"); return ;;
        dir) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "${current#--*=}"); return ;;
        command) mapfile -t COMPREPLY < <(compgen -c -- "$current"); return ;;
    esac
    # readline replaces only what follows the last character that it splits at.
    [[ $COMP_WORDBREAKS == *=* ]] && breaks+="="
    [[ $COMP_WORDBREAKS == *:* ]] && breaks+=":"
    [[ -n $breaks ]] && kept=${current%"${current##*[$breaks]}"}
    COMPREPLY=("${found[@]#"$kept"}")
    if [[ $directive == nospace || ${#found[@]} -eq 1 && ${found[0]} == *[=:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _pyctl pyctl
"""

_ZSH = r"""#compdef pyctl
# zsh completion for pyctl; made by: pyctl completion zsh
_pyctl() {
    local line directive="" word
    local -a plain open
    while IFS= read -r line; do
        if [[ $line == :* ]]; then
            directive=${line#:}
            continue
        fi
        word=${line%%$'\t'*}
        local shown=${word//:/\\:}
        [[ $line == *$'\t'* ]] && shown+=":${line#*$'\t'}"
        if [[ $directive == nospace || $word == *[=:] ]]; then open+=("$shown"); else plain+=("$shown"); fi
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    case $directive in
        file) compset -P '*='; _files; return ;;
        dir) compset -P '*='; _files -/; return ;;
        command) _command_names -e; return ;;
    esac
    (( ${#plain} )) && _describe -V pyctl plain
    (( ${#open} )) && _describe -V pyctl open -S ''
}
if [[ ${funcstack[1]} == _pyctl ]]; then _pyctl "$@"; else compdef _pyctl pyctl; fi
"""

_FISH = r"""# fish completion for pyctl; made by: pyctl completion fish
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
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(parsed: Parsed) -> int:
    """Prints one shell's script, or writes it to --file."""
    shell = parsed.args[0]
    script = SCRIPTS.get(shell)
    if script is None:
        raise UsageError(f"no completion for the shell {shell}", "there is one for bash, zsh and fish")
    if parsed.options.no_desc:
        script = script.replace("__complete ", "__complete --no-desc ")
    if parsed.options.file:
        with open(parsed.options.file, "w", encoding="utf-8") as file:
            file.write(script)
        return 0
    sys.stdout.write(script)
    return 0
