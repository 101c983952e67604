# bash completion for pyctl; made by: pyctl completion bash
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
