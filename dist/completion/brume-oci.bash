# Completion of brume-oci for bash: source it, or install it as
# /usr/share/bash-completion/completions/brume-oci.  Verbs and options come from its own --help.

_brume_oci() {
	local current=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]} verb= verbs i root=()

	verbs=$("$program" --help 2>/dev/null | sed -n '/^verbs:/,$s/^  \([a-z]*\) .*/\1/p')
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == --root ]] && root=(--root "${COMP_WORDS[i + 1]}")
		if [[ " ${verbs//$'\n'/ } " == *" ${COMP_WORDS[i]} "* ]]; then
			verb=${COMP_WORDS[i]}
			break
		fi
	done
	if [[ $current == -* ]]; then
		local help=$("$program" $verb --help 2>/dev/null)
		mapfile -t COMPREPLY < <(compgen -W \
			"$(grep -oE -- '--[a-z][a-z-]*' <<<"$help" | sort -u)" -- "$current")
	elif [[ -z $verb ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$current")
	elif [[ ${COMP_WORDS[COMP_CWORD - 1]} =~ ^(-b|-r|-p|--bundle|--resources|--process|--.*-(socket|path)|--pid-file)$ ]]; then
		compopt -o default
		COMPREPLY=()
	else
		mapfile -t COMPREPLY < <(compgen -W \
			"$("$program" "${root[@]}" list -q 2>/dev/null)" -- "$current")
	fi
}
complete -F _brume_oci brume-oci
