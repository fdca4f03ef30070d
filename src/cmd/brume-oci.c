/* brume-oci: an OCI container runtime; see container/cli.h. */
#include "container/cli.h"

int main(int argc, char **argv)
{
	return cli_main(argc, argv);
}
