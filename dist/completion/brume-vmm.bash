# Completion of brume-vmm for bash: source it, or install it as
# /usr/share/bash-completion/completions/brume-vmm.  Options come from its own --help.

_brume_vmm() {
	local current=${COMP_WORDS[COMP_CWORD]} words=

	if [[ ${COMP_WORDS[1]} == ctl && COMP_CWORD -eq 3 ]]; then
		words="add_disk add_nic balloon info metrics pause power_button quit remove reset resume"
	elif [[ ${COMP_WORDS[1]} == ctl && ${COMP_WORDS[3]} == add_nic ]]; then
		words="tap= fd:"
		compopt -o nospace
	fi
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--cpu-baseline) words="host x86-64-v2 x86-64-v3" ;;
	--serial) words="stdio none" ;;
	--console) words="stdio" ;;
	esac
	if [[ $current == -* ]]; then
		words=$("${COMP_WORDS[0]}" --help 2>/dev/null | grep -oE '^  --[a-z][a-z-]*|, --[a-z-]+' | tr -d ', ')
	elif [[ -z $words ]]; then
		((COMP_CWORD == 1)) && words=ctl
		compopt -o default
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _brume_vmm brume-vmm
