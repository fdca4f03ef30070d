#pragma once
/*
 * container/cli.h - the command line of brume-oci: the one of runc and crun.
 *
 * One file per verb.  Exit codes: 0 good, 1 failure, 2 usage; run and exec in the foreground give
 * the program's own (128 + signal).
 */

/* The whole program. */
int cli_main(int argc, char **argv);
