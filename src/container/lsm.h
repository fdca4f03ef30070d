#pragma once
/*
 * container/lsm.h - profiles and labels of security modules: AppArmor and SELinux.
 *
 * What the kernel does not have is refused while nothing is made yet.  Used by process and rootfs.
 */
struct error;

/* Whether the kernel can do it; NULL, "" and AppArmor's "unconfined" always can be had. */
int lsm_check_apparmor(const char *profile, struct error *err);
/* `property` is for the error: "process.selinuxLabel". */
int lsm_check_selinux(const char *property, const char *label, struct error *err);

/* For the child: what it executes next runs under this profile or label. */
int lsm_set_apparmor(const char *profile, struct error *err);
int lsm_set_selinux(const char *label, struct error *err);
