# Completion of brume for bash: source it, or install it as
# /usr/share/bash-completion/completions/brume.  brume itself knows what fits.

_brume() {
	local current=${COMP_WORDS[COMP_CWORD]} candidates
	local -a words=()

	# Readline breaks words at ':' and '=', brume does not: join what has no blank in between.
	local line=${COMP_LINE:0:COMP_POINT}
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=('')
	local whole=${words[-1]-}
	candidates=$(brume __complete -- "${words[@]:1}" 2>/dev/null)
	if [[ $candidates == @files ]]; then
		compopt -o default
		COMPREPLY=()
		return
	fi
	# What stands before the last break is on the line already.
	local prefix=${whole%"$current"}
	[[ $current == [:=] ]] && prefix=$whole
	local IFS=$'\n'
	COMPREPLY=()
	for candidate in $candidates; do
		COMPREPLY+=("${candidate#"$prefix"}")
	done
}
complete -F _brume brume
