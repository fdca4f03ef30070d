#pragma once
/*
 * api/handlers.h - the handlers that the table in api/routes.c names, by noun.
 *
 * Each has the contract of route_fn: answer, or wait, or return a negative errno with words.
 */

struct error;
struct request;

/* server_info.c */
int server_show(struct request *req, struct error *err);
